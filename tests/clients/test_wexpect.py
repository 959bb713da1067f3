"""The pipe half of wexpect, unmodified: host and console reader, in two processes.

Its other half is the console's, which Linux has not: win32console and win32gui have no names here. The test begins
the reader's process and plays the program that wexpect would begin.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.clients.programs import as_windows, run

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.timeout(300)  # with what is fetched

READER = r"""
import os, time
from wexpect import ConsoleReaderPipe

reader = ConsoleReaderPipe.__new__(ConsoleReaderPipe)
reader.console_pid = os.getpid()
reader.create_connection()
reader.send_to_host("name> ")
name = b""
while not name.endswith(b"\n"):
    name += reader.get_from_host()
    time.sleep(0.01)  # as wexpect does
reader.send_to_host("hello " + name.decode().strip() + " \u00fc\r\n" + "x" * 40_000 + "\r\n")
reader.sendeof()
reader.close_connection()
"""

HOST = r"""
import subprocess, sys
import wexpect

class Spawn(wexpect.SpawnPipe):
    def startChild(self, args, env):
        self.child = subprocess.Popen([sys.executable, "reader.py"])
        self.console_pid = self.child.pid

child = Spawn(sys.executable, timeout=20)
child.expect("name> ")
child.sendline("somebody")
child.expect(r"hello (\w+) (.)\r\n")
print(child.match.groups())
child.expect(wexpect.EOF)
print(child.before == "x" * 40_000 + "\r\n", child.flag_eof)
print(child.child.wait(20))
child.disconnect_from_child()
"""


def test_it_expects_and_answers(wexpect_folder: Path, tmp_path: Path) -> None:
    place = tmp_path / "program"
    place.mkdir()
    (place / "reader.py").write_text(READER, encoding="utf-8")
    printed = run(wexpect_folder, place, HOST, *as_windows("wexpect"))
    assert printed == ["('somebody', '\u00fc')", "True True", "0"]
