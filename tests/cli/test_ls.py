"""`npipe ls`, a process of its own: lines for scripts, JSON, and a table on a terminal."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import pwd
import re
import struct
import subprocess
import termios
from typing import TYPE_CHECKING

import pytest

import npipe
from npipe.cli import main
from tests.cli.figures import owner, pipe
from tests.cli.helpers import DEADLINE, NPIPE

if TYPE_CHECKING:
    from pathlib import Path

COMMAND = [*NPIPE, "ls"]
HEADER = "name\ttype\tdirection\tinstances\tlimit\tpid\tuser\n"
ME = pwd.getpwuid(os.geteuid()).pw_name


def run(*arguments: str) -> str:
    done = subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, timeout=DEADLINE)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def on_a_terminal(columns: int) -> str:
    """Return what it prints on a terminal so wide, without colours."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    env = {key: value for key, value in os.environ.items() if key not in ("COLUMNS", "LINES")}
    process = subprocess.Popen(COMMAND, stdin=slave, stdout=slave, stderr=slave, env=env | {"TERM": "xterm"})
    os.close(slave)
    printed = b""
    try:
        while piece := os.read(master, 65536):
            printed += piece
    except OSError:
        pass  # how Linux tells that nobody has the other side any more
    os.close(master)
    assert process.wait(DEADLINE) == 0
    return re.sub(r"\x1b\[[0-9;]*m", "", printed.decode()).replace("\r", "")


def test_without_pipes_there_is_the_header_and_standard_error_has_the_root(root: Path) -> None:
    for arguments, printed in (((), HEADER), (("--json",), "[]\n")):
        done = subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, timeout=DEADLINE)
        assert (done.returncode, done.stdout, done.stderr) == (0, printed, f"npipe: no pipes below {root}\n")


def test_scripts_get_a_line_of_fields_for_each_pipe(name: str) -> None:
    with (
        npipe.listen(name + "-a", max_instances=5) as listener,
        npipe.connect(name + "-a"),
        listener.accept(DEADLINE),
        npipe.listen(name + "-b", mode="byte", access="inbound"),
    ):
        printed = run()
    assert printed == (
        f"{HEADER}"
        f"{name}-a\tmessage\tduplex\t2\t5\t{os.getpid()}\t{ME}\n"
        f"{name}-b\tbyte\tinbound\t1\tunlimited\t{os.getpid()}\t{ME}\n"
    )


def test_json_has_the_listing_s_fields(name: str) -> None:
    with npipe.listen(name, access="outbound", max_instances=3):
        printed = run("--json")
    assert json.loads(printed) == [
        {
            "name": name,
            "type": "message",
            "direction": "outbound",
            "instances": 1,
            "max_instances": 3,
            "pid": os.getpid(),
            "user": ME,
        }
    ]


def test_a_name_cannot_break_the_lines() -> None:
    with npipe.listen("\\\\?\\pipe\\a\tb\nc\x1b[2Jd"):
        assert run().splitlines()[1:] == [
            f"\\\\.\\pipe\\a\\tb\\nc\\x1b[2Jd\tmessage\tduplex\t1\tunlimited\t{os.getpid()}\t{ME}"
        ]
        assert json.loads(run("--json"))[0]["name"] == "\\\\.\\pipe\\a\tb\nc\x1b[2Jd"


@pytest.mark.parametrize(("silent", "left"), [((2,), ["2"]), ((2, 4), ["", ""])])
def test_who_tells_nothing_has_the_instances_that_the_others_leave(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], silent: tuple[int, ...], left: list[str]
) -> None:
    silents = [owner(listening=count, since=None, code=121, pid=count) for count in silent]
    monkeypatch.setattr("npipe.cli.ls.gather", lambda: [pipe(owner(listening=3), *silents)])
    assert main(["ls", "-l"]) == 0
    rows = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert [row[rows[0].index("instances")] for row in rows] == ["instances", "3", *left]


def test_a_terminal_gets_a_table_and_where_the_pipes_are(root: Path) -> None:
    with npipe.listen("[red]pipe"):
        *table, where = on_a_terminal(120).splitlines()
    assert where == f"below {root}"
    lines = [line.split() for line in table]
    assert lines == [
        HEADER.split(),
        [r"\\.\pipe\[red]pipe", "message", "duplex", "1", "unlimited", str(os.getpid()), ME],
    ]


def test_a_narrow_terminal_has_lines_for_each_pipe_and_cuts_nothing(root: Path) -> None:
    long = "n" * 200
    with npipe.listen(long, max_instances=7), npipe.listen("short"):
        assert on_a_terminal(40).splitlines() == [
            rf"\\.\pipe\{long}",
            f"  message duplex 1 7 {os.getpid()} {ME}",
            r"\\.\pipe\short",
            f"  message duplex 1 unlimited {os.getpid()} {ME}",
            f"below {root}",
        ]
