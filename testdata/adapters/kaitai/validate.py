#!/usr/bin/env python3
"""Checks that conformance.json has the form that conformance.schema.json describes."""

import json
import pathlib

import jsonschema

directory = pathlib.Path(__file__).resolve().parents[2]
schema = json.loads((directory / "conformance.schema.json").read_text())
jsonschema.Draft202012Validator.check_schema(schema)
jsonschema.Draft202012Validator(schema).validate(
    json.loads((directory / "conformance.json").read_text())
)
