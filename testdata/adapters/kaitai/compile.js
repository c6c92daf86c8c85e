// node compile.js FILE.ksy DIRECTORY: compiles a Kaitai Struct specification to Python.
const fs = require("fs");
const path = require("path");
const KaitaiStructCompiler = require("kaitai-struct-compiler");
const YAML = require("yaml");

const [file, directory] = process.argv.slice(2);
KaitaiStructCompiler.compile("python", YAML.parse(fs.readFileSync(file, "utf8")), null, false)
  .then((files) => {
    for (const [name, text] of Object.entries(files)) {
      fs.writeFileSync(path.join(directory, name), text);
    }
  })
  .catch((error) => {
    console.error(String(error));
    process.exit(1);
  });
