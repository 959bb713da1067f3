"""`npipe ls -l`, `--tree` and `--watch`, `npipe info NAME`, `npipe completion`: for people, scripts and shells."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import pwd
import re
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
from typing import TYPE_CHECKING

import pytest

import npipe
from tests import rendezvous as r
from tests.cli.helpers import DEADLINE, INTERRUPTED, NPIPE, run
from tests.helpers import readable

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.slow  # each starts some commands

ME = pwd.getpwuid(os.geteuid()).pw_name
COLOUR = re.compile(r"\x1b\[[0-9;]*m")


class Terminal:
    """A command on a terminal of its own."""

    def __init__(self, *arguments: str, columns: int = 200, **env: str) -> None:
        self.master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
        clean = {key: value for key, value in os.environ.items() if key not in ("COLUMNS", "LINES", "NO_COLOR")}
        self.process = subprocess.Popen(
            [*NPIPE, *arguments],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env=clean | {"TERM": "xterm-256color", "PYTHONIOENCODING": "utf-8"} | env,
        )
        os.close(slave)
        self.printed = b""

    def until(self, text: str) -> None:
        """Read until it has printed that from here on."""
        limit = time.monotonic() + DEADLINE
        begin = len(self.printed)
        while text.encode() not in self.printed[begin:]:
            ready = readable(self.master, max(0.0, limit - time.monotonic()))
            assert ready, self.printed
            self.printed += os.read(self.master, 65536)

    def rest(self) -> str:
        """All that it has printed by its end, with colours; lines end with a newline."""
        try:
            while piece := os.read(self.master, 65536):
                self.printed += piece
        except OSError:
            pass  # how Linux tells that nobody has the other side any more
        os.close(self.master)
        self.process.wait(DEADLINE)
        return self.printed.decode().replace("\r", "")


@pytest.fixture
def busy(name: str) -> Iterator[str]:
    """A pipe with a client that has sent 300 bytes in three messages, of which one is read, and got 5."""
    with (
        npipe.listen(name, max_instances=5, in_buffer_size=4000) as listener,
        npipe.connect(name) as client,
        listener.accept(DEADLINE) as server,
    ):
        for _ in range(3):
            client.send(bytes(100))
        server.recv()
        server.send(b"12345")
        client.recv()
        yield name


def test_long_lines_have_what_was_moved(busy: str) -> None:
    header, line = (text.split("\t") for text in run("ls", "-l").stdout.splitlines())
    told = dict(zip(header, line, strict=True))
    assert told["program"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", told["since"])
    del told["program"], told["since"]
    assert told == {
        "name": busy,
        "type": "message",
        "direction": "duplex",
        "instances": "2",
        "limit": "5",
        "pid": str(os.getpid()),
        "user": ME,
        "clients": "1",
        "ended": "0",
        "waiting": "0",
        "in quota": "4000",
        "out quota": "65536",
        "bytes in": "100",
        "messages in": "1",
        "bytes out": "5",
        "messages out": "1",
        "unread": "200",
        "problem": "",
    }


def test_the_tree_has_clients_below_processes_below_pipes(busy: str) -> None:
    done = run("ls", "--tree")
    assert (done.returncode, done.stderr) == (0, "")
    pipe, owner, client = done.stdout.splitlines()
    assert pipe == f"{busy}: message, duplex, 2 instances, at most 5"
    assert owner.startswith(f"  process {os.getpid()} of {ME}: ")
    assert client.startswith(f"    client {os.getpid()} of {ME}: ")
    for part in ("in 100 B in 1 messages", "out 5 B in 1 messages", "200 B unread by the server"):
        assert f"; {part}" in client


def test_a_terminal_gets_branches(busy: str) -> None:
    printed = Terminal("ls", "--tree").rest().splitlines()
    assert [line[:2] for line in printed] == ["\\\\", "└─", "  ", "be"]
    assert printed[2].startswith("   └─ client")


def test_json_has_whole_reports(busy: str) -> None:
    for arguments in (("-l",), ("--tree",)):
        (report,) = json.loads(run("ls", *arguments, "--json").stdout)
        again = json.loads(run("info", busy, "--json").stdout)
        assert report["owners"][0].pop("answered_in") > 0  # each took its own time
        assert again["owners"][0].pop("answered_in") > 0
        assert report == again
    (owner,) = report["owners"]
    assert (report["name"], owner["pid"], owner["totals"]["bytes_received"]) == (busy, os.getpid(), 100)
    (client,) = owner["connections"]
    assert (client["pid"], client["stats"]["unread"], client["stats"]["messages_sent"]) == (os.getpid(), 200, 1)


def test_info_tells_all_of_one_pipe(busy: str) -> None:
    done = run("info", busy.removeprefix("\\\\.\\pipe\\"))
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[:4] == [f"name: {busy}", "type: message", "direction: duplex", "instances: 2, at most 5"]
    for wanted in (
        "  instances: 2, 1 listening, 1 connected",
        "  quotas: in 4000 B, out 64.0 KiB",
        "  clients that wait for an instance: 0",
        "  connections so far: 1, in 100 B in 1 messages, out 5 B in 1 messages",
        "    moved: in 100 B in 1 messages, out 5 B in 1 messages",
        "    200 B unread by the server",
    ):
        assert wanted in lines


def test_exit_statuses_tell_the_kinds_apart(name: str) -> None:
    assert run("info", name).returncode == 3
    assert run("info", r"\\elsewhere\pipe\x").returncode == 9
    assert run("info", "").returncode == 2  # no name
    for code, status in ((5, 5), (1, 9)):
        with r.own(name) as owner:
            thread = threading.Thread(target=owner.answer, args=(r.answer(code, kind=5),))
            thread.start()
            done = run("info", name)
            thread.join()
        assert (done.returncode, done.stderr) == (status, "")
        owner.path.unlink()
        owner.path.parent.rmdir()


def test_info_of_several_pipes_tells_of_each(busy: str) -> None:
    with npipe.listen(f"{busy}-b"):
        both = run("info", busy, f"{busy}-b")
        alone = [run("info", busy).stdout, run("info", f"{busy}-b").stdout]
        assert (both.returncode, both.stderr) == (0, "")
        assert both.stdout == "\n".join(alone)
        reports = json.loads(run("info", busy, f"{busy}-b", "--json").stdout)
        one = json.loads(run("info", busy, "--json").stdout)
        for report in (reports[0], one):
            report["owners"][0].pop("answered_in")
        assert reports[0] == one
        assert [report["name"] for report in reports] == [busy, f"{busy}-b"]


def test_of_several_pipes_those_that_are_there_are_told_and_the_first_failure_is_the_status(busy: str) -> None:
    some = run("info", f"{busy}-x", busy, f"{busy}\x1b[2J", f"{busy}-y")
    assert some.returncode == 3
    assert some.stdout == run("info", busy).stdout
    lines = some.stderr.splitlines()
    assert [line.partition("] ")[0] for line in lines] == [
        "npipe: [WinError 2",
        "npipe: [WinError 123",
        "npipe: [WinError 2",
    ]
    assert r"\x1b[2J" in lines[1]
    as_json = run("info", busy, "", "--json")
    assert (as_json.returncode, [report["name"] for report in json.loads(as_json.stdout)]) == (2, [busy])
    none = run("info", f"{busy}-x", f"{busy}-y", "--json")
    assert (none.returncode, json.loads(none.stdout)) == (3, [])
    assert run("info", f"{busy}-x", f"{busy}-y").stdout == ""


def test_a_server_that_is_stopped_is_told_of_in_time(name: str) -> None:
    with r.own(name):  # it never answers
        done = run("info", name)
    assert done.returncode == 4
    assert "it does not answer" in done.stdout


def test_a_hostile_name_never_reaches_the_terminal_raw(busy: str) -> None:
    with npipe.listen("\\\\?\\pipe\\a\x1b]0;title\x07b\x9bc\u202ed"):
        for arguments in (("ls", "-l"), ("ls", "--tree"), ("ls",)):
            for columns in (200, 40):
                terminal = Terminal(*arguments, columns=columns)
                text = COLOUR.sub("", terminal.rest())
                assert terminal.process.returncode == 0
                assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", text)
                assert r"a\x1b]0;title\x07b\x9bc\u202ed" in text.replace("\n", "") or columns == 40


def test_forty_columns_are_enough(busy: str) -> None:
    lines = COLOUR.sub("", Terminal("ls", "-l", columns=40).rest()).splitlines()
    assert lines[0].strip() == busy
    assert "  bytes in: 100 B" in lines
    assert "  unread: 200 B" in lines


def test_no_color_leaves_colours_away(busy: str) -> None:
    assert not re.search(r"\x1b\[[0-9;]*3[0-9]", Terminal("ls", "-l", NO_COLOR="1").rest())


def test_watch_shows_what_changes_until_ctrl_c(busy: str, ctrl_c: None) -> None:
    terminal = Terminal("ls", "--tree", "--watch", "--interval", "0.05", columns=600)
    terminal.until("unread by the server")
    with npipe.connect(busy) as client:
        client.send(bytes(77))
        terminal.until("77 B unread")
    terminal.process.send_signal(signal.SIGINT)
    printed = terminal.rest()
    assert terminal.process.returncode == INTERRUPTED
    assert "\x1b[?1049l" in printed  # the screen is as it was
    assert "Traceback" not in printed


def test_watch_on_a_narrow_terminal_folds_what_it_has(busy: str, ctrl_c: None) -> None:
    terminal = Terminal("ls", "--watch", "--interval", "0.05", columns=40)
    terminal.until(f" {ME}")
    terminal.process.send_signal(signal.SIGINT)
    lines = [line.rstrip() for line in COLOUR.sub("", terminal.rest()).splitlines()]
    assert f"  message duplex 2 5 {os.getpid()} {ME}" in lines
    assert "\N{HORIZONTAL ELLIPSIS}" not in "".join(lines)


def test_a_client_that_has_gone_waits_for_nothing(name: str) -> None:
    with npipe.listen(name) as listener:
        waits = "import npipe, sys; pipe = npipe.connect(sys.argv[1]); print(flush=True); pipe.recv()"
        with subprocess.Popen([sys.executable, "-c", waits, name], stdout=subprocess.PIPE) as client:
            with listener.accept(DEADLINE) as server:
                assert client.stdout is not None
                assert client.stdout.readline() == b"\n"
                limit = time.monotonic() + DEADLINE
                while not server.stats.peer_waits_to_read:  # what it says in its memory makes no event
                    assert time.monotonic() < limit
                client.kill()
                client.wait(DEADLINE)
                for command in (["info", name], ["ls", "--tree"]):
                    printed = run(*command).stdout
                    assert "its end is closed" in printed
                    assert "client waits" not in printed


def test_watch_in_a_pipe_has_a_line_of_json_for_each_picture(busy: str, ctrl_c: None) -> None:
    process = subprocess.Popen(
        [*NPIPE, "ls", "-l", "--json", "--watch", "--interval", "0.05"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    for _ in range(3):
        (report,) = json.loads(process.stdout.readline())
        assert report["name"] == busy
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=DEADLINE)
    assert (process.returncode, err) == (INTERRUPTED, "")


def test_watch_ends_quietly_when_nobody_reads(busy: str) -> None:
    process = subprocess.Popen(
        [*NPIPE, "ls", "--watch", "--interval", "0.05"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline().startswith("name\t")
    process.stdout.close()
    process.wait(DEADLINE)
    assert process.stderr is not None
    assert (process.returncode, process.stderr.read()) == (0, "")
    process.stderr.close()


@pytest.mark.parametrize("where", [r"\\.\pipe\ ".strip(), r"\\.", "//./pipe/", r"\\.\PIPE"])
def test_this_machine_has_a_name_too(busy: str, where: str) -> None:
    assert run("ls", where).stdout == run("ls").stdout


def test_what_is_no_host_is_a_wrong_use(busy: str) -> None:
    assert run("ls", "nonsense").returncode == 2
    assert run("ls", "-l", r"\\host\pipe").returncode == 2


def test_help_teaches_with_examples() -> None:
    for command in ("ls", "info", "metrics", "completion"):
        done = run(command, "--help")
        assert (done.returncode, done.stderr) == (0, "")
        assert "Examples" in done.stdout
        assert f"\n    npipe {command}" in done.stdout or "eval" in done.stdout


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_gets_a_script_that_completes(shell: str) -> None:
    done = run("completion", shell)
    assert (done.returncode, done.stderr) == (0, "")
    assert "_NPIPE_COMPLETE" in done.stdout
    if shell == "bash":
        assert subprocess.run(["bash", "-n"], input=done.stdout, text=True, timeout=DEADLINE).returncode == 0


def completed(*words: str) -> list[str]:
    env = {**os.environ, "_NPIPE_COMPLETE": "bash_complete", "COMP_WORDS": " ".join(words)}
    env["COMP_CWORD"] = str(len(words) - 1)
    done = subprocess.run([*NPIPE], env=env, capture_output=True, text=True, timeout=DEADLINE)
    return [line.partition(",")[2] for line in done.stdout.splitlines()]


def test_commands_and_names_of_pipes_are_completed(name: str) -> None:
    assert completed("npipe", "comp") == ["completion"]
    with npipe.listen("complete-me"), npipe.listen("complete; rm"), npipe.listen("other"):
        assert completed("npipe", "info", "comp") == ["complete-me"]
