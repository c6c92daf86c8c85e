"""Streams without a filesystem. The installed module is tested."""

import functools
import gc
import gzip
import io
import itertools
import json
import os
import pathlib
import select
import signal
import sys
import tempfile
import threading
import types
import unittest
import uuid

import btrfs_recv
from btrfs_recv import Command, Reader, StreamError

TESTDATA = pathlib.Path(__file__).resolve().parents[3] / "testdata"
STREAMS = sorted((TESTDATA / "streams").glob("*.stream"))
FULL = TESTDATA / "streams" / "full.v2.stream"
INCREMENT = TESTDATA / "streams" / "incr.v2.stream"


EMPTY = TESTDATA / "valid" / "subvolume-empty.stream"


def setUpModule():
    # A shell has commands in the background ignore it.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    unittest.addModuleCleanup(signal.signal, signal.SIGINT, before)


def in_a_thread(function):
    results = []
    thread = threading.Thread(target=lambda: results.append(function()))
    thread.start()
    thread.join()
    (result,) = results
    return result


class Commands(unittest.TestCase):
    def test_every_stream_ends(self):
        self.assertTrue(STREAMS)
        seen = set()
        for path in STREAMS:
            with self.subTest(path.name):
                reader = Reader(path, allow_unknown=True)
                *_, last = commands = list(reader)
                self.assertIsInstance(last, Command.End)
                self.assertTrue(all(isinstance(command, Command) for command in commands))
                self.assertLessEqual(reader.consumed, path.stat().st_size)
                seen.update(type(command).__name__ for command in commands)
        self.assertGreater(len(seen), 15)

    def test_fields_are_those_of_the_dump(self):
        # By hand from a dump of the stream.
        first, *rest = Reader(FULL)
        match first:
            case Command.Subvol(name=name, uuid=identity, ctransid=ctransid):
                self.assertIsInstance(name, bytes)
                self.assertIsInstance(identity, uuid.UUID)
                self.assertGreater(ctransid, 0)
            case _:
                self.fail(f"{first!r} is not a subvolume")
        written = 0
        for command in rest:
            for field in type(command).__match_args__:
                getattr(command, field)
            if isinstance(command, Command.Write):
                written += len(command.data)
            elif isinstance(command, Command.Utimes):
                self.assertLess(command.mtime.nanoseconds, 10**9)
                self.assertEqual(command.mtime, btrfs_recv.Timespec(command.mtime.seconds, command.mtime.nanoseconds))
        self.assertGreater(written, 0)
        with self.assertRaises(AttributeError):
            first.name = b"other"

    def test_version_and_place(self):
        reader = Reader(FULL)
        self.assertIsNone(reader.version)
        next(reader)
        self.assertEqual((reader.version, reader.stream, reader.command, reader.byte), (2, 1, 1, 17))

    def test_sources(self):
        expected = sum(1 for _ in Reader(FULL))
        data = FULL.read_bytes()

        class OneByOne:
            at = 0

            def read(self, size):
                self.at += 1
                return data[self.at - 1 : self.at]

        with open(FULL, "rb") as file, open(FULL, "rb", buffering=0) as raw:
            packed = io.BytesIO(gzip.compress(data))
            sources = [
                str(FULL), FULL, os.fsencode(FULL), file, raw, io.BytesIO(data), gzip.open(packed), OneByOne(),
            ]
            for source in sources:
                self.assertEqual(sum(1 for _ in Reader(source)), expected, source)
            raw.seek(0)
            self.assertEqual(sum(1 for _ in Reader(raw.fileno())), expected)
            # It was not closed.
            raw.seek(0)

    def test_what_is_no_source(self):
        for source, error in [
            (io.StringIO("text"), TypeError),
            (None, TypeError),
            (object(), TypeError),
            ("/does/not/exist", FileNotFoundError),
            (987_654, OSError),
        ]:
            with self.assertRaises(error):
                list(Reader(source))

        class Text:
            def read(self, size):
                return "text"

        class NotNow:
            def read(self, size):
                return None

        for source in [Text(), NotNow()]:
            with self.assertRaises(TypeError):
                list(Reader(source))

    def test_a_reader_of_several_threads(self):
        reader = Reader(FULL)
        commands = [in_a_thread(lambda: next(reader)), next(reader), *in_a_thread(lambda: list(reader))]
        self.assertEqual(len(commands), sum(1 for _ in Reader(FULL)))
        # Dropped by another thread than its own, it closes its file.
        reader = in_a_thread(lambda: Reader(FULL))
        before = len(os.listdir("/proc/self/fd"))
        del reader
        gc.collect()
        self.assertEqual(len(os.listdir("/proc/self/fd")), before - 1)

    def test_a_reader_within_its_own_call(self):
        class Source:
            def read(self, size):
                return next(self.reader)

        source = Source()
        source.reader = Reader(source)
        with self.assertRaises(RuntimeError):
            next(source.reader)

    def test_nothing_yet_is_not_the_end(self):
        reading, writing = os.pipe()
        os.set_blocking(reading, False)
        self.addCleanup(os.close, writing)
        os.write(writing, EMPTY.read_bytes())
        # More may come: another stream may follow.
        with open(reading, "rb") as source, self.assertRaises(TypeError):
            btrfs_recv.verify(source)

    def test_ctrl_c_while_no_code_of_python_runs(self):
        started = threading.Event()

        def interrupt():
            started.wait()
            os.kill(os.getpid(), signal.SIGINT)

        thread = threading.Thread(target=interrupt)
        thread.start()
        self.addCleanup(thread.join)
        stream = EMPTY.read_bytes()

        def first():
            started.set()
            yield stream

        pieces = itertools.chain(first(), itertools.repeat(stream * 2000, 300), [b""])
        source = types.SimpleNamespace(read=functools.partial(next, pieces))
        with self.assertRaises(KeyboardInterrupt):
            btrfs_recv.verify(source)
        self.assertIsNotNone(next(pieces, None))

    def test_what_a_source_raises(self):
        class Failing:
            def read(self, size):
                raise KeyError("mine")

        for function in [lambda source: list(Reader(source)), btrfs_recv.verify, btrfs_recv.diff]:
            with self.assertRaisesRegex(KeyError, "mine"):
                function(Failing())
        with self.assertRaisesRegex(KeyError, "mine"):
            btrfs_recv.rewrite(Failing(), io.BytesIO())

    def test_errors_have_a_place(self):
        data = bytearray(FULL.read_bytes())
        data[len(data) // 2] ^= 1
        with self.assertRaises(StreamError) as raised:
            list(Reader(io.BytesIO(data)))
        self.assertEqual(raised.exception.stream, 1)
        self.assertGreater(raised.exception.command, 1)
        self.assertGreater(raised.exception.byte, 17)
        self.assertIsInstance(raised.exception, btrfs_recv.Error)

    def test_hostile_streams(self):
        for path in sorted((TESTDATA / "hostile").glob("*.stream")):
            with self.subTest(path.name):
                try:
                    for command in Reader(path, allow_unknown=True):
                        repr(command)
                except StreamError as error:
                    self.assertTrue(str(error))
                btrfs_recv.verify(path)

    def test_cut_anywhere(self):
        data = INCREMENT.read_bytes()
        for end in range(0, len(data), max(1, len(data) // 200)):
            with self.assertRaises(StreamError):
                list(Reader(io.BytesIO(data[:end])))

    def test_commands_outlive_the_reader(self):
        commands = list(Reader(FULL))
        gc.collect()
        again = list(Reader(FULL))
        for one, other in zip(commands, again, strict=True):
            for field in type(one).__match_args__:
                self.assertEqual(getattr(one, field), getattr(other, field))


class Whole(unittest.TestCase):
    def test_verify(self):
        report = btrfs_recv.verify(FULL)
        self.assertIs(report["good"], True)
        damaged = FULL.read_bytes()[:-1]
        self.assertIs(btrfs_recv.verify(io.BytesIO(damaged))["good"], False)

    def test_other_threads_run_meanwhile(self):
        counter, stop = [0], threading.Event()

        def count():
            while not stop.is_set():
                counter[0] += 1
                # Lets others run, and waits for its turn again.
                select.select([], [], [], 0)

        # Nobody else has a turn before the thread that runs lets go.
        interval = sys.getswitchinterval()
        sys.setswitchinterval(1000)
        self.addCleanup(sys.setswitchinterval, interval)
        stream = io.BytesIO(FULL.read_bytes() * 100)
        thread = threading.Thread(target=count)
        thread.start()
        try:
            before = counter[0]
            report = btrfs_recv.verify(stream)
            after = counter[0]
        finally:
            stop.set()
            thread.join()
        self.assertEqual(report["streams"], 100)
        self.assertGreater(after, before)

    def test_diff(self):
        (difference,) = btrfs_recv.diff(INCREMENT)
        self.assertIn("parent_uuid", difference)
        actions = {entry["action"] for entry in difference["entries"]}
        self.assertLessEqual(actions, {"created", "linked", "renamed", "changed", "deleted"})
        self.assertGreater(len(actions), 1)

    def test_rewrite(self):
        target, identity = io.BytesIO(), uuid.uuid4()
        btrfs_recv.rewrite(FULL, target, name=b"other", uuid=identity, ctransid=42)
        old, new = list(Reader(FULL)), list(Reader(io.BytesIO(target.getvalue())))
        self.assertEqual((new[0].name, new[0].uuid, new[0].ctransid), (b"other", identity, 42))
        self.assertEqual(len(old), len(new))
        same = io.BytesIO()
        btrfs_recv.rewrite(FULL, same)
        self.assertEqual(same.getvalue(), FULL.read_bytes())
        for name in [b"", b"a/b", b"..", b"n" * 300]:
            with self.assertRaises(btrfs_recv.Error):
                btrfs_recv.rewrite(FULL, io.BytesIO(), name=name)

    def test_a_target_that_is_full(self):
        class Full:
            def write(self, data):
                raise OSError(28, "No space left on device")

        with self.assertRaises(OSError) as raised:
            btrfs_recv.rewrite(FULL, Full())
        self.assertEqual(raised.exception.errno, 28)

    def test_a_target_that_takes_no_more_now(self):
        reading, writing = os.pipe()
        self.addCleanup(os.close, reading)
        os.set_blocking(writing, False)
        with open(writing, "wb", buffering=0) as target, self.assertRaises(BlockingIOError):
            btrfs_recv.rewrite(io.BytesIO(FULL.read_bytes()), target)

    def test_a_target_that_returns_nothing(self):
        class Plain:
            written = b""

            def write(self, data):
                self.written += data

        target = Plain()
        btrfs_recv.rewrite(FULL, target)
        self.assertEqual(target.written, FULL.read_bytes())

    def test_an_unbuffered_target_writes_in_pieces(self):
        class Piecemeal(io.BytesIO):
            def write(self, data):
                return super().write(data[:1000])

        target = Piecemeal()
        btrfs_recv.rewrite(FULL, target)
        self.assertEqual(target.getvalue(), FULL.read_bytes())


class Extract(unittest.TestCase):
    """Receives into a plain directory, so without root and btrfs."""

    def setUp(self):
        self.directory = tempfile.TemporaryDirectory()
        self.addCleanup(self.directory.cleanup)

    def extract(self, source, **options):
        return btrfs_recv.receive(source, self.directory.name, extract=True, **options)

    def test_report_and_events(self):
        events = []
        report = self.extract(FULL, progress=events.append)
        (subvolume,) = report["subvolumes"]
        self.assertTrue((pathlib.Path(self.directory.name) / subvolume["name"]).is_dir())
        self.assertEqual(events[0]["event"], "subvolume_begins")
        self.assertEqual(events[-1]["event"], "subvolume_finished")
        json.dumps([events, report])

    def test_a_failure_has_a_report(self):
        with self.assertRaises(btrfs_recv.ReceiveError) as raised:
            self.extract(io.BytesIO(FULL.read_bytes()[:-10]))
        (subvolume,) = raised.exception.report["subvolumes"]
        self.assertEqual(subvolume["outcome"], "abandoned")
        # Which is the truth.
        with self.assertRaises(btrfs_recv.ReceiveError):
            self.extract(FULL)

    def test_a_callback_that_raises(self):
        def progress(event):
            if event["event"] == "subvolume_created":
                raise RuntimeError("enough")

        with self.assertRaisesRegex(RuntimeError, "enough") as raised:
            self.extract(FULL, progress=progress)
        (subvolume,) = raised.exception.report["subvolumes"]
        self.assertEqual(subvolume["outcome"], "abandoned")

    def test_an_exception_that_takes_no_report(self):
        class Closed(Exception):
            def __setattr__(self, name, value):
                raise AttributeError(name)

        def progress(event):
            raise Closed

        with self.assertRaises(Closed):
            self.extract(FULL, progress=progress)

    def test_ctrl_c(self):
        data = io.BytesIO(FULL.read_bytes())

        class Interrupted:
            def read(self, size):
                if data.tell() > 200:
                    signal.raise_signal(signal.SIGINT)
                return data.read(100)

        with self.assertRaises(KeyboardInterrupt) as raised:
            self.extract(Interrupted())
        self.assertEqual(raised.exception.report["finished"], 0)


    def test_options(self):
        for options, error in [
            ({"on_error": "explode"}, ValueError),
            ({"parent": "/"}, ValueError),
            ({"name": b"a/b"}, btrfs_recv.Error),
            ({"name": "text"}, TypeError),
            ({"unknown": 1}, TypeError),
        ]:
            with self.assertRaises(error):
                self.extract(FULL, **options)
        with self.assertRaises(btrfs_recv.Error) as raised:
            btrfs_recv.receive(FULL, "/does/not/exist")
        self.assertEqual(str(raised.exception).count("No such file"), 1)
        self.assertEqual(os.listdir(self.directory.name), [])


if __name__ == "__main__":
    unittest.main()
