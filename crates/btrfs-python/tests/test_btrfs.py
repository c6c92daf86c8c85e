"""Receives on btrfs, as root; and the recipes of the README."""

import contextlib
import io
import os
import pathlib
import re
import signal
import subprocess
import tempfile
import unittest

import btrfs_recv

README = pathlib.Path(__file__).resolve().parents[1] / "README.md"


def run(*command):
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def mounted(test, directory, name):
    """A new filesystem, until the test has ended."""
    image, mount = directory / f"{name}.image", directory / name
    with open(image, "wb") as file:
        file.truncate(256 << 20)
    mount.mkdir()
    run("mkfs.btrfs", "--quiet", image)
    run("mount", "-o", "loop", image, mount)
    test.addCleanup(run, "umount", mount)
    return mount


def missing():
    """Why nothing can be tested here."""
    if os.environ.get("BTRFS_TESTS") == "required":
        return None
    if os.geteuid() != 0:
        return "not root"
    with open("/proc/filesystems", encoding="ascii") as known:
        return None if "\tbtrfs\n" in known.read() else "no btrfs"


def setUpModule():
    # A shell has commands in the background ignore it.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    unittest.addModuleCleanup(signal.signal, signal.SIGINT, before)


@unittest.skipIf(missing(), missing())
class Btrfs(unittest.TestCase):
    def setUp(self):
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.room = pathlib.Path(directory.name)
        self.data = mounted(self, self.room, "data")
        self.backup = mounted(self, self.room, "backup")
        run("btrfs", "subvolume", "create", self.data / "work")
        (self.data / "work" / "first").write_bytes(os.urandom(1 << 20))
        self.snapshot("monday")
        (self.data / "work" / "second").write_bytes(b"2" * 100_000)
        os.rename(self.data / "work" / "first", self.data / "work" / "renamed")
        self.snapshot("tuesday", "monday")

    def snapshot(self, name, parent=None):
        run("btrfs", "subvolume", "snapshot", "-r", self.data / "work", self.data / name)
        sent = ["-p", self.data / parent] if parent else []
        run("btrfs", "send", "-q", *sent, "-f", self.room / f"{name}.stream", self.data / name)

    def same(self, name):
        def read(top):
            return {
                path.relative_to(top): path.read_bytes() for path in sorted(top.rglob("*")) if path.is_file()
            }

        self.assertEqual(read(self.data / name), read(self.backup / name))

    def test_full_and_incremental(self):
        for name in ["monday", "tuesday"]:
            events = []
            report = btrfs_recv.receive(self.room / f"{name}.stream", self.backup, progress=events.append)
            (subvolume,) = report["subvolumes"]
            self.assertEqual((subvolume["name"], subvolume["outcome"]), (name, "finished"))
            self.same(name)
            shown = subprocess.check_output(["btrfs", "subvolume", "show", self.backup / name], text=True)
            self.assertIn(subvolume["uuid"], shown)
            self.assertIn("readonly", shown)
            self.assertEqual(events[-1]["event"], "subvolume_finished")

    def test_from_a_process(self):
        send = ["btrfs", "send", "-q", self.data / "monday"]
        with subprocess.Popen(send, stdout=subprocess.PIPE) as process:
            btrfs_recv.receive(process.stdout, self.backup, name=b"other")
        self.assertTrue((self.backup / "other" / "first").is_file())

    def test_no_parent(self):
        with self.assertRaisesRegex(btrfs_recv.ReceiveError, "parent|source") as raised:
            btrfs_recv.receive(self.room / "tuesday.stream", self.backup)
        self.assertEqual(raised.exception.report["finished"], 0)
        self.assertEqual(os.listdir(self.backup), [])

    def test_ctrl_c_leaves_nothing_that_counts(self):
        stream = open(self.room / "monday.stream", "rb")
        self.addCleanup(stream.close)

        class Interrupted:
            def read(self, size):
                if stream.tell() > 500_000:
                    signal.raise_signal(signal.SIGINT)
                return stream.read(10_000)

        with self.assertRaises(KeyboardInterrupt):
            btrfs_recv.receive(Interrupted(), self.backup)
        shown = subprocess.check_output(["btrfs", "subvolume", "show", self.backup / "monday"], text=True)
        self.assertRegex(shown, r"Received UUID:\s+-")
        self.assertNotIn("readonly", shown)
        run("btrfs", "subvolume", "delete", self.backup / "monday")
        stream.seek(0)
        with self.assertRaises(KeyboardInterrupt):
            btrfs_recv.receive(Interrupted(), self.backup, on_error="delete")
        self.assertEqual(os.listdir(self.backup), [])

    def test_inventory_and_plan(self):
        btrfs_recv.receive(self.room / "monday.stream", self.backup)
        here, there = btrfs_recv.inventory(self.data), btrfs_recv.inventory(self.backup)
        ids = {subvolume["path"]: subvolume["id"] for subvolume in here["subvolumes"]}
        plan = btrfs_recv.plan(ids["tuesday"], here, there)
        self.assertEqual(plan["parent"], ids["monday"])
        with self.assertRaises(btrfs_recv.Error):
            btrfs_recv.plan(ids["work"], here, there)
        with self.assertRaises(btrfs_recv.Error):
            btrfs_recv.plan(ids["tuesday"], here, {})
        with self.assertRaises(OSError):
            btrfs_recv.inventory("/proc")

    def test_recipes(self):
        recipes = dict(
            re.findall(r"```python\n# recipe: (\w+)\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
        )
        self.assertEqual(set(recipes), {"changes", "store", "receive", "plan"})
        run("btrfs", "subvolume", "snapshot", "-r", self.data / "work", self.data / "wednesday")
        before = os.getcwd()
        self.addCleanup(os.chdir, before)
        os.chdir(self.room)
        printed = {}
        for name in ["changes", "receive", "store", "plan"]:
            text = recipes[name].replace('"/data', f'"{self.data}').replace('"/backup', f'"{self.backup}')
            with contextlib.redirect_stdout(io.StringIO()) as output:
                exec(compile(text, name, "exec"), {"__name__": name})
            printed[name] = output.getvalue()
        self.assertIn("renamed renamed", printed["changes"])
        self.assertIn("monday finished", printed["receive"])
        self.assertIn("monday", printed["plan"])
        self.assertIs(btrfs_recv.verify("wednesday.stream")["good"], True)


if __name__ == "__main__":
    unittest.main()
