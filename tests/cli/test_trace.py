"""`npipe trace`, `npipe replay` and NPIPE_TRACE: processes of their own, and their files (docs/tracing.md)."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import pwd
import random
import re
import resource
import signal
import struct
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import pytest

import npipe
from npipe._text import printable
from npipe.cli import main
from npipe.tracing.attach import Tracer
from npipe.tracing.events import Event, Flags, Kind, TraceFileError, matcher
from npipe.tracing.files import TraceWriter, as_json, read_trace
from npipe.tracing.records import Assembler, RecordError, Ring, new_header
from tests import helpers as h
from tests.cli.helpers import DEADLINE, NPIPE, run
from tests.helpers import AS_ROOT
from tests.packages import need

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.conftest import Child

SERVER = """
import sys
import npipe
with npipe.listen(sys.argv[1]) as listener:
    print("listens", flush=True)
    while True:
        with listener.accept() as pipe:
            try:
                while True:
                    pipe.send(pipe.recv().upper())
            except npipe.PipeError:
                pass
"""
ME = pwd.getpwuid(os.geteuid()).pw_name
SHARED = SERVER.replace("argv[1]", "argv[1], exclusive=False")
SAID = [b"hello", b"", "grüße\x1b[31m".encode(), bytes(range(256)), b"x" * 70000]


class Trace:
    """An `npipe trace` process that has begun."""

    def __init__(self, name: str, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [*NPIPE, "trace", name, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONIOENCODING": "utf-8"},
        )
        assert self.process.stderr is not None
        self.begun = self.process.stderr.readline()
        assert self.begun.startswith("npipe: tracing process ")

    def end(self) -> tuple[int, str, str]:
        out, err = self.process.communicate(timeout=DEADLINE)
        return self.process.returncode, out, err


def talk(name: str, said: list[bytes] = SAID) -> None:
    with npipe.connect(name) as client:
        for data in said:
            client.send(data)
            assert client.recv() == data.upper()


def recorded(name: str, child: Callable[..., Child], target: Path, said: list[bytes] = SAID) -> Path:
    """Record a conversation into a file."""
    server = child(SERVER, name)
    assert server.line() == "listens"
    trace = Trace(name, "-w", str(target), "-s", "100000")
    talk(name, said)
    server.kill()
    code, out, err = trace.end()
    assert (code, out) == (0, "")
    assert trace.begun == f"npipe: tracing process {server.pid}: {name}; recording into {target}\n"
    assert err.splitlines()[1].startswith(f"npipe: {sum_of(name, said)}")
    return target


def sum_of(name: str, said: list[bytes], connections: int = 1) -> str:
    """What the command says at the end, up to how long answers took."""
    size, count = sum(map(len, said)), len(said)
    moved = f"{size} bytes in {count} message{'s' * (count != 1)}"
    begin = f"{name}: {connections} connection{'s' * (connections != 1)}, in {moved}, out {moved}, 0 errors, 0 lost"
    return f"{begin}; {count} answer{'s' * (count != 1)}: median "


def data_of(path: Path) -> list[tuple[str, bytes]]:
    return [(event.direction, event.data) for event in read_trace(path) if event.kind is Kind.DATA]


@pytest.mark.parametrize("extension", ["pcapng", "jsonl"])
def test_a_file_has_what_was_said_in_order(
    name: str, child: Callable[..., Child], tmp_path: Path, extension: str
) -> None:
    path = recorded(name, child, tmp_path / f"trace.{extension}")
    assert data_of(path) == [pair for data in SAID for pair in (("in", data), ("out", data.upper()))]
    assert {event.pipe for event in read_trace(path)} == {name}
    assert path.stat().st_mode & 0o777 == 0o600


def test_lines_are_one_for_each_message_and_have_no_control_characters(name: str, child: Callable[..., Child]) -> None:
    server = child(SERVER, name)
    assert server.line() == "listens"
    trace = Trace(name)
    talk(name, SAID[:3])
    server.kill()
    code, out, _ = trace.end()
    assert code == 0
    assert "\x1b" not in out
    lines = [line.split(" ", 3)[3] for line in out.splitlines() if "->" in line]
    assert lines == [f"{os.getpid()} -> 5 hello", f"{os.getpid()} -> 0", f"{os.getpid()} -> 12 grüße\\x1b[31m"]


def test_json_lines_have_all_that_is_known(name: str, child: Callable[..., Child]) -> None:
    server = child(SERVER, name)
    assert server.line() == "listens"
    trace = Trace(name, "--json")
    talk(name, [b"text", b"\xff"])
    server.kill()
    lines = [json.loads(line) for line in trace.end()[1].splitlines()]
    first, _, second = [line for line in lines if line["event"] == "data"][:3]
    assert (first["pipe"], first["owner"], first["peer"]) == (name, server.pid, os.getpid())
    assert (first["direction"], first["size"], first["text"], first["code"]) == ("in", 4, "text", 0)
    assert (second["size"], second["base64"]) == (1, "/w==")


def test_an_answer_s_time_is_from_its_request_to_it(name: str, child: Callable[..., Child]) -> None:
    server = child(SERVER, name)
    assert server.line() == "listens"
    trace = Trace(name, "--json", "--pairs")
    talk(name, [b"one", b"two"])
    server.kill()
    code, out, err = trace.end()
    told = [line for line in map(json.loads, out.splitlines()) if line["event"] == "exchange"]
    assert [(line["request"]["text"], line["answer"]["text"]) for line in told] == [("one", "ONE"), ("two", "TWO")]
    for line in told:
        assert line["answer_seconds"] == round((line["answer"]["ns"] - line["request"]["ns"]) / 1e9, 9) >= 0
    assert code == 0
    assert err.splitlines()[1].startswith(f"npipe: {sum_of(name, [b'one', b'two'])}")


def test_ctrl_c_shows_what_waits_for_an_answer_and_the_sum(
    name: str, child: Callable[..., Child], ctrl_c: None
) -> None:
    with npipe.listen(name) as listener, npipe.connect(name) as silent, listener.accept(DEADLINE) as first:
        with npipe.connect(name) as client, listener.accept(DEADLINE) as second:
            trace = Trace(name, "--slower", "0", "--size", "1:")
            silent.send(b"is anybody there")
            first.recv()
            client.send(b"question")
            second.recv()
            second.send(b"answer")
            assert trace.process.stdout is not None
            assert trace.process.stdout.readline().endswith("-> 8 question\n")  # what came before was seen too
            assert trace.process.stdout.readline().endswith(" s answer\n")
            trace.process.send_signal(signal.SIGINT)
            code, out, err = trace.end()
    request, waited = out.splitlines()
    assert request.endswith(f"{os.getpid()} -> 16 is anybody there")
    assert re.fullmatch(r"  no answer in \d+\.\d{6} s, when the trace ended", waited)
    assert code == -signal.SIGINT
    assert f"npipe: {name}: 2 connections, in 24 bytes in 2 messages, out 6 bytes in 1 message, 0 errors" in err
    assert err.endswith("; 1 not answered\n")


def test_what_a_server_was_asked_that_is_killed_has_no_answer_from_then_on(
    name: str, child: Callable[..., Child], ctrl_c: None
) -> None:
    silent = child(SERVER.replace("pipe.send(pipe.recv().upper())", "pipe.recv()"), name)
    assert silent.line() == "listens"
    with npipe.connect(name) as client:
        trace = Trace(name, "--follow", "--slower", "0", "--json")
        client.send(b"is anybody there")
        h.until(lambda: npipe.inspect(name).owners[0].totals.messages_received == 1, DEADLINE)
        silent.kill()
        assert trace.process.stdout is not None
        told = json.loads(trace.process.stdout.readline())  # while the trace goes on
    assert (told["end"], told["request"]["text"], told["answer"]) == ("closed", "is anybody there", None)
    assert 0 < told["unanswered_seconds"] < DEADLINE
    trace.process.send_signal(signal.SIGINT)
    code, out, err = trace.end()
    assert (code, out) == (-signal.SIGINT, "")
    assert err.endswith("; 1 not answered\n")


def test_connections_that_are_there_already_are_told_with_whose_they_are(name: str) -> None:
    with npipe.listen(name) as listener, npipe.connect(name), listener.accept(DEADLINE):
        program = npipe.inspect(name).owners[0].connections[0].program
        assert program is not None
        (line,) = run("trace", name, "-c", "1").stdout.splitlines()
        assert line.endswith(f" there already, with {os.getpid()} of {ME}: {printable(program)}")
        told = json.loads(run("trace", name, "-c", "1", "--json").stdout)
    assert (told["event"], told["peer"], told["user"], told["program"]) == ("present", os.getpid(), ME, program)


def test_filters_choose_by_size_peer_and_content(name: str, child: Callable[..., Child], tmp_path: Path) -> None:
    path = str(recorded(name, child, tmp_path / "trace.pcapng"))
    sizes = [
        json.loads(line)["size"]
        for line in run("trace", "-r", path, "--json", "--size", "5:12").stdout.split("\n")[:-1]
    ]
    assert sizes == [5, 5, 12, 12]
    assert len(run("trace", "-r", path, "--match", "^h.llo$").stdout.splitlines()) == 1
    assert run("trace", "-r", path, "--peer", "1").stdout == ""
    assert len(run("trace", "-r", path, "-c", "2").stdout.splitlines()) == 2
    assert "68 65 6c 6c 6f" in run("trace", "-r", path, "-x").stdout


def test_a_trace_that_follows_goes_on_with_the_next_server(name: str, child: Callable[..., Child]) -> None:
    trace = subprocess.Popen(
        [*NPIPE, "trace", "--follow", name, "--json", "--size", "1:", "-c", "4"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert trace.stderr is not None
    assert trace.stderr.readline() == f"npipe: waiting for a server of {name}\n"
    for word in (b"first", b"second"):
        server = child(SERVER, name)
        assert server.line() == "listens"
        assert trace.stderr.readline() == f"npipe: tracing process {server.pid} too\n"
        talk(name, [word])
        server.kill()
        h.until(lambda: not npipe.list_pipes(), DEADLINE)
    out, err = trace.communicate(timeout=DEADLINE)
    assert trace.returncode == 0
    assert err.splitlines()[1].startswith(f"npipe: {sum_of(name, [b'first', b'second'], connections=2)}")
    said = [line["text"] for line in map(json.loads, out.splitlines())]
    assert said == ["first", "FIRST", "second", "SECOND"]


def test_what_keeps_it_from_a_trace_is_one_line_with_cause_and_cure(name: str) -> None:
    done = run("trace", name)
    assert (done.returncode, done.stdout) == (3, "")
    assert "no process has an instance of it now; start its server first" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    with npipe.listen(name, traceable=False):
        done = run("trace", name)
    assert (done.returncode, len(done.stderr.splitlines())) == (5, 1)
    assert "traceable=False" in done.stderr


@pytest.mark.parametrize("size", ["", ":", "x", "1-2", "1:2:3"])
def test_a_filter_that_is_none_is_wrong_use(size: str, tmp_path: Path) -> None:
    done = run("trace", "-r", str(tmp_path / "x"), "--size", size)
    assert (done.returncode, done.stdout) == (2, "")
    assert "is no size" in done.stderr
    with pytest.raises(ValueError, match="regular expression"):
        matcher(pattern="(")


@pytest.mark.parametrize(("extension", "cut"), [("pcapng", "cut short after"), ("jsonl", "is cut short")])
def test_of_a_file_that_is_cut_short_what_is_whole_is_read(
    name: str, child: Callable[..., Child], tmp_path: Path, extension: str, cut: str
) -> None:
    path = recorded(name, child, tmp_path / f"trace.{extension}", SAID[:2])
    whole, content = list(read_trace(path)), path.read_bytes()
    ends = set()
    for size in range(len(content) - 1, 0, -3):
        path.write_bytes(content[:size])
        events: list[Event] = []
        try:
            events += read_trace(path)
        except TraceFileError as error:
            events = _until_error(path)
            ends.add(str(error))
        assert events == whole[: len(events)]
    assert any(cut in end for end in ends)
    path.write_bytes(content[:-5])
    done = run("trace", "-r", str(path))
    assert done.returncode == 7
    assert len(done.stdout.splitlines()) == len(whole) - 1
    *summed, last = done.stderr.splitlines()
    assert summed[0].startswith(f"npipe: {len(whole) - 1} events, ")
    assert [line.partition(":")[0] for line in summed] == ["npipe"] * 2
    assert last.startswith(f"npipe: {path}: ")
    assert cut in last


def _until_error(path: Path) -> list[Event]:
    events = []
    with pytest.raises(TraceFileError):
        for event in read_trace(path):
            events.append(event)  # noqa: PERF402
    return events


@pytest.mark.parametrize(
    "content",
    [b"", b"MZ\x90", b"\xd4\xc3\xb2\xa1" + bytes(20), b"\x0a\x0d\x0d\x0a" + bytes(24), b"{}\n", b"{", b"\0" * 9],
)
def test_a_foreign_file_is_one_line_of_error(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "foreign"
    path.write_bytes(content)
    for command in (["trace", "-r", str(path)], ["replay", str(path)]):
        done = run(*command)
        assert (done.returncode, done.stdout) == (7, "")
        assert done.stderr.startswith(f"npipe: {path}: ")
        assert len(done.stderr.splitlines()) == 1


def test_every_flipped_bit_of_a_file_is_an_event_or_an_error(tmp_path: Path) -> None:
    path = tmp_path / "trace.pcapng"
    event = Event(1, Kind.DATA, Flags.FIRST | Flags.LAST | Flags.MESSAGE, r"\\.\pipe\x", 1, 2, 3, 0, 4, b"data")
    with TraceWriter(path) as writer:
        writer.write(event)
        writer.write(event)
    content = path.read_bytes()
    said = set()
    for bit in range(len(content) * 8):
        changed = bytearray(content)
        changed[bit // 8] ^= 1 << bit % 8
        path.write_bytes(changed)
        try:
            for got in read_trace(path):
                as_json(got)
        except TraceFileError as error:
            said.add(str(error))
    assert len(said) > 5
    assert not any("\n" in text for text in said)


def test_a_full_disk_ends_the_recording_and_keeps_what_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "trace.pcapng"
    event = Event(1, Kind.DATA, Flags.FIRST | Flags.LAST, r"\\.\pipe\x", 1, 2, 3, 0, 1000, b"d" * 1000)
    script = (
        "import resource, signal, sys\n"
        "from pathlib import Path\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))\n"
        "from npipe.cli import main\n"
        "sys.exit(main(['trace', '-r', sys.argv[1], '-w', sys.argv[2]]))\n"
    )
    source = tmp_path / "source.pcapng"
    with TraceWriter(source) as writer:
        for _ in range(10):
            writer.write(event)
    done = subprocess.run(
        [sys.executable, "-c", script, source, path], capture_output=True, text=True, timeout=DEADLINE
    )
    assert done.returncode == 1
    assert done.stderr.endswith("recording has stopped; the 4 records in it are whole\n")
    assert list(read_trace(path)) == [event] * 4
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 5000


def test_what_cannot_be_traced_leaves_an_older_recording_as_it_is(name: str, tmp_path: Path) -> None:
    old, foreign, new = tmp_path / "old.pcapng", tmp_path / "foreign", tmp_path / "new.pcapng"
    foreign.write_bytes(b"another program's")
    event = Event(1, Kind.DATA, Flags.FIRST | Flags.LAST, r"\\.\pipe\x", 1, 2, 3, 0, 5, b"hello")
    with TraceWriter(old) as writer:
        writer.write(event)
    (tmp_path / "link.pcapng").symlink_to(old)
    for target in (old, new):
        done = run("trace", name, "-w", str(target))
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (3, "", 1)
        done = run("trace", "-r", str(foreign), "-w", str(target))
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (7, "", 1)
    for source in (old, tmp_path / "link.pcapng"):
        done = run("trace", "-r", str(source), "-w", str(old))
        said = "npipe: --write is the file that --read reads. See 'npipe trace --help'.\n"
        assert (done.returncode, done.stdout, done.stderr) == (2, "", said)
    assert list(read_trace(old)) == [event]
    assert not new.exists()


def test_a_trace_goes_through_pipes_too(tmp_path: Path) -> None:
    source = tmp_path / "source.pcapng"
    events = [Event(1, Kind.DATA, Flags.LAST, r"\\.\pipe\x", 1, 2, 3, 0, 5, b"%05d" % n) for n in range(9)]
    with TraceWriter(source) as writer:
        for event in events:
            writer.write(event)
    command = [*NPIPE, "trace", "-r", "-", "-w", "-", "--match", "[0-4]$"]
    done = subprocess.run(
        command, input=source.read_bytes(), capture_output=True, cwd=tmp_path, timeout=DEADLINE, check=True
    )
    assert list(tmp_path.iterdir()) == [source]
    begun, count, told = done.stderr.decode().splitlines()
    assert (begun, count[:16]) == ("npipe: recording to standard output", "npipe: 9 events,")
    assert told.startswith(
        r"npipe: \\.\pipe\x (client): 1 connection, in 0 bytes in 0 messages, out 45 bytes in 9 messa"
    )
    copy = tmp_path / "copy.pcapng"
    copy.write_bytes(done.stdout)
    assert list(read_trace(copy)) == events[:5]
    full = run("trace", "-r", str(source), "-w", "/dev/full")
    assert (full.returncode, full.stderr) == (1, "npipe: /dev/full cannot be written: No space left on device\n")


@pytest.mark.slow
@pytest.mark.timeout(300)  # it may be installed first
def test_wireshark_reads_a_trace_with_the_dissector(name: str, child: Callable[..., Child], tmp_path: Path) -> None:
    tshark = need("tshark")
    path = recorded(name, child, tmp_path / "trace.pcapng", [b"hello", b""])
    script = run("trace", "--lua").stdout.strip()
    fields = ["npipe.kind", "npipe.flags.out", "npipe.size", "npipe.data", "frame.interface_name", "npipe.peer"]
    done = subprocess.run(
        [tshark, "-X", f"lua_script:{script}", "-r", path, "-T", "fields", *(x for f in fields for x in ("-e", f))],
        capture_output=True,
        text=True,
        timeout=2 * DEADLINE,
        env={**os.environ, "HOME": str(tmp_path)},
    )
    assert done.returncode == 0, done.stderr
    rows = [line.split("\t") for line in done.stdout.splitlines()]
    assert [row[1] in {"1", "True"} for row in rows if row[0] == "1"] == [False, True, False, True]
    assert [row[2:4] for row in rows if row[0] == "1"] == [
        ["5", b"hello".hex()],
        ["5", b"HELLO".hex()],
        ["0", ""],
        ["0", ""],
    ]
    assert {row[4] for row in rows} == {name}
    assert {row[5] for row in rows} == {str(os.getpid())}
    malformed = subprocess.run(
        [tshark, "-X", f"lua_script:{script}", "-r", path, "-Y", "npipe.malformed"],
        capture_output=True,
        text=True,
        timeout=2 * DEADLINE,
        env={**os.environ, "HOME": str(tmp_path)},
    )
    assert (malformed.returncode, malformed.stdout) == (0, "")


def test_a_client_is_played_again_and_the_answers_compared(
    name: str, child: Callable[..., Child], tmp_path: Path
) -> None:
    path = recorded(name, child, tmp_path / "trace.pcapng")
    assert child(SERVER, name).line() == "listens"
    done = run("replay", str(path), "--fast")
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr == f"{len(SAID)} sent, {len(SAID)} compared, 0 differ\n"


def test_an_answer_that_differs_is_told_of_with_exit_status_8(
    name: str, child: Callable[..., Child], tmp_path: Path
) -> None:
    path = recorded(name, child, tmp_path / "trace.pcapng", [b"one", b"two"])
    assert child(SERVER.replace("upper()", "upper().replace(b'TWO', b'TWI')"), f"{name}-new").line() == "listens"
    done = run("replay", str(path), f"{name}-new")
    assert done.returncode == 8
    detail = "3 bytes as recorded, but from byte 2 on b'I' instead of b'O'"
    assert done.stdout == (
        f"connection 1, message 4: {detail}\n"
        "  request:  3 bytes b'two'\n  recorded: 3 bytes b'TWO'\n  now:      3 bytes b'TWI'\n"
    )
    done = run("replay", str(path), f"{name}-new", "--json")
    assert (done.returncode, done.stderr) == (8, "")
    known = json.loads(done.stdout)
    assert [difference.pop("connection") for difference in known["differences"]] == [1]
    told = {
        "message": 4,
        "detail": detail,
        "offset": 2,
        "request": {"size": 3, "from": 0, "text": "two"},
        "recorded": {"size": 3, "from": 0, "text": "TWO"},
        "now": {"size": 3, "from": 0, "text": "TWI"},
    }
    assert known == {"sent": 2, "compared": 2, "differences": [told]}


def test_of_long_answers_that_differ_what_is_about_the_first_byte_is_shown(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "trace.pcapng"
    flags = Flags.SERVER | Flags.MESSAGE | Flags.FIRST | Flags.LAST
    request, answer = b"q" * 5000, bytes(3000) + b"\xff" * 3000
    with TraceWriter(path) as writer:
        writer.write(Event(1, Kind.DATA, flags, name, 1, 2, 3, 0, len(request), request))
        writer.write(Event(2, Kind.DATA, flags | Flags.OUT, name, 1, 2, 3, 0, len(answer), answer))
    now = answer[:4000] + b"\xfe" + answer[4001:]
    with npipe.serve(name, lambda _: now):
        assert main(["replay", str(path), "--fast"]) == 8
        assert capsys.readouterr().out.splitlines()[1:] == [
            f"  request:  5000 bytes {b'q' * 64!r}...",
            f"  recorded: 6000 bytes ...{answer[3984:4048]!r}...",
            f"  now:      6000 bytes ...{now[3984:4048]!r}...",
        ]
        assert main(["replay", str(path), "--fast", "--json"]) == 8
    (told,) = json.loads(capsys.readouterr().out)["differences"]
    assert (told["offset"], told["request"]) == (4000, {"size": 5000, "from": 0, "text": "q" * 1024})
    for which, whole in (("recorded", answer), ("now", now)):
        piece = told[which]
        assert (piece["size"], piece["from"]) == (6000, 3744)
        assert base64.b64decode(piece["base64"]) == whole[3744:4768]


def test_an_answer_that_does_not_come_is_told_with_its_request(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "trace.pcapng"
    flags = Flags.SERVER | Flags.MESSAGE | Flags.FIRST | Flags.LAST
    with TraceWriter(path) as writer:
        writer.write(Event(1, Kind.DATA, flags, name, 1, 2, 3, 0, 5, b"hello"))
        writer.write(Event(2, Kind.DATA, flags | Flags.OUT, name, 1, 2, 3, 0, 5, b"HELLO"))
    with npipe.listen(name):
        assert main(["replay", str(path), "--timeout", "0.5", "--json"]) == 8
        (told,) = json.loads(capsys.readouterr().out)["differences"]
    with npipe.listen(name):
        assert main(["replay", str(path), "--timeout", "0.5"]) == 8
    assert told.pop("detail").startswith("receiving: [WinError 121] ")
    assert told == {
        "connection": 2,
        "message": 2,
        "offset": None,
        "request": {"size": 5, "from": 0, "text": "hello"},
        "recorded": {"size": 5, "from": 0, "text": "HELLO"},
        "now": None,
    }
    assert capsys.readouterr().out.splitlines()[1:] == [
        "  request:  5 bytes b'hello'",
        "  recorded: 5 bytes b'HELLO'",
        "  now:      nothing",
    ]


def _byte_recording(path: Path, name: str, answer: bytes, end: Kind | None) -> None:
    flags = Flags.SERVER | Flags.FIRST | Flags.LAST
    with TraceWriter(path) as writer:
        writer.write(Event(1, Kind.DATA, flags, name, 1, 2, 3, 0, 5, b"hello"))
        writer.write(Event(2, Kind.DATA, flags | Flags.OUT, name, 1, 2, 3, 0, len(answer), answer))
        if end is not None:
            writer.write(Event(3, end, Flags.SERVER, name, 1, 2, 3))


@contextlib.contextmanager
def _answering(name: str, answer: bytes) -> Iterator[None]:
    """A server of a byte pipe that answers one client, once, and waits for its end."""
    with npipe.listen(name, mode="byte") as listener:

        def answers() -> None:
            with contextlib.suppress(npipe.PipeError), listener.accept(DEADLINE) as pipe:
                pipe.read(5)
                pipe.write(answer)
                pipe.read(1)

        thread = threading.Thread(target=answers, daemon=True)
        thread.start()
        yield
        thread.join(DEADLINE)


def test_of_a_shorter_answer_on_a_byte_pipe_what_has_come_is_shown(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "trace.pcapng"
    _byte_recording(path, name, b"HELLO", None)
    with _answering(name, b"HEL"):
        assert main(["replay", str(path), "--timeout", "0.5"]) == 8
    first, *rest = capsys.readouterr().out.splitlines()
    assert first.startswith("connection 2, message 2: receiving: [WinError 121] ")
    assert rest == ["  request:  5 bytes b'hello'", "  recorded: 5 bytes b'HELLO'", "  now:      3 bytes b'HEL'"]
    with _answering(name, b"HEL"):
        assert main(["replay", str(path), "--timeout", "0.5", "--json"]) == 8
    (told,) = json.loads(capsys.readouterr().out)["differences"]
    assert (told["offset"], told["now"]) == (3, {"size": 3, "from": 0, "text": "HEL"})


@pytest.mark.parametrize("end", [Kind.CLOSED, Kind.GONE])
def test_a_longer_answer_on_a_byte_pipe_differs(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], end: Kind
) -> None:
    path = tmp_path / "trace.pcapng"
    _byte_recording(path, name, b"HELLO", end)
    with _answering(name, b"HELLO, world"):
        assert main(["replay", str(path)]) == 8
    out, err = capsys.readouterr()
    assert out.splitlines() == [
        "connection 2, message 3: 7 bytes more than all that was recorded: b', world'",
        "  request:  5 bytes b'hello'",
        "  recorded: nothing",
        "  now:      7 bytes b', world'",
    ]
    assert err == "1 sent, 1 compared, 1 differ\n"
    with _answering(name, b"HELLO, world"):
        assert main(["replay", str(path), "--json"]) == 8
    (told,) = json.loads(capsys.readouterr().out)["differences"]
    assert (told["message"], told["recorded"], told["now"]) == (3, None, {"size": 7, "from": 0, "text": ", world"})
    _byte_recording(path, name, b"HELLO", None)  # the trace may have ended before the rest
    with _answering(name, b"HELLO, world"):
        assert main(["replay", str(path)]) == 0


@AS_ROOT
@pytest.mark.parametrize("security", ["owner", "everyone"])
def test_another_user_is_told_who_may_trace(
    name: str, child: Callable[..., Child], shared_root: Path, security: str
) -> None:
    assert shared_root.is_dir()
    with npipe.listen(name, security=security):
        stranger = child(
            """
            import os
            import sys
            import npipe
            import encodings.utf_16_le, pwd, traceback  # while they may still be read
            from npipe.tracing.attach import Tracer
            os.setgroups([])
            os.setgid(12345)
            os.setuid(12345)
            try:
                Tracer([sys.argv[1]])
            except npipe.PipeAccessError as error:
                print(error.detail, flush=True)
            """,
            name,
        )
        assert stranger.line() == "a pipe is traced by its server's user and by root alone"


def test_a_server_is_played_again(name: str, child: Callable[..., Child], tmp_path: Path) -> None:
    path = recorded(name, child, tmp_path / "trace.pcapng", [b"one", b"two"])
    server = subprocess.Popen([*NPIPE, "replay", path, "--as", "server", "--fast"], stderr=subprocess.PIPE, text=True)
    with npipe.connect(name, wait_for_server=True, timeout=DEADLINE) as client:
        client.send(b"one")
        assert client.recv() == b"ONE"
        client.send(b"two")
        assert client.recv() == b"TWO"
    assert server.communicate(timeout=DEADLINE)[1] == "2 sent, 2 compared, 0 differ\n"
    assert server.returncode == 0


def test_a_trace_without_all_content_is_not_played(name: str, child: Callable[..., Child], tmp_path: Path) -> None:
    path = recorded(name, child, tmp_path / "trace.pcapng", [b"y" * 150000])
    done = run("replay", str(path))
    assert done.returncode == 7
    assert "record with a higher --snaplen" in done.stderr


@pytest.mark.parametrize("ends", ["its end", "a kill"])
def test_a_process_records_itself_from_its_start(
    name: str, child: Callable[..., Child], tmp_path: Path, ends: str
) -> None:
    path = tmp_path / "own.pcapng"
    program = child(
        """
        import os
        import sys
        import npipe
        with npipe.listen(sys.argv[1]) as listener, npipe.connect(sys.argv[1]) as client, listener.accept() as server:
            for data in (b"question", b"q" * 30000):
                client.send(data)
                server.send(server.recv() + b"!")
                client.recv()
        print("said", flush=True)
        sys.stdin.readline()
        """,
        name,
        env={"NPIPE_TRACE": str(path), "NPIPE_TRACE_SNAPLEN": "200000"},
    )
    assert program.line() == "said"
    expected = [b"question", b"question!", b"q" * 30000, b"q" * 30000 + b"!"]
    if ends == "a kill":
        _await_events(path, 8)
        program.kill()
    else:
        program.say("end")
        assert program.wait() == 0
    events = list(read_trace(path))
    assert {event.pipe for event in events} == {name}
    for side in (Flags.SERVER, Flags(0)):
        mine = [event for event in events if event.flags & Flags.SERVER == side]
        assert [event.data for event in mine if event.kind is Kind.DATA] == expected
        if ends != "a kill":
            assert mine[0].kind is Kind.OPENED
            assert Kind.CLOSED in {event.kind for event in mine}


def _await_events(path: Path, count: int) -> None:
    def there() -> bool:
        try:
            return sum(event.kind is Kind.DATA for event in read_trace(path)) >= count
        except TraceFileError:
            return False

    h.until(there, DEADLINE)


def test_two_processes_with_one_name_for_their_files_have_two(
    name: str, child: Callable[..., Child], tmp_path: Path
) -> None:
    path = tmp_path / "own.jsonl"
    script = "import sys, npipe\nprint('on', flush=True)\nsys.stdin.readline()"
    first, second = (child(script, env={"NPIPE_TRACE": str(path)}) for _ in range(2))
    assert (first.line(), second.line()) == ("on", "on")
    assert len(list(tmp_path.glob("own*.jsonl"))) == 2


def test_a_file_that_cannot_be_written_is_said_and_the_program_runs(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", "import npipe; print('runs')"],
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        env={**os.environ, "NPIPE_TRACE": str(tmp_path / "none" / "x.pcapng")},
    )
    assert (done.returncode, done.stdout) == (0, "runs\n")
    assert done.stderr.startswith("npipe: NPIPE_TRACE: ")
    assert len(done.stderr.splitlines()) == 1


# ---- What an owner writes may be anything


def _ring(size: int = 65536, snaplen: int = 0xFFFFFFFF) -> tuple[bytearray, Ring]:
    memory = bytearray(4096 + size)
    memory[:16] = new_header(size)
    return memory, Ring(memoryview(memory), snaplen)


def _put(memory: bytearray, position: int, *fields: int, tail: int) -> None:
    record = struct.pack("<IHHqQIIIIIIII", *fields)
    memory[4096 + position : 4096 + position + len(record)] = record
    memory[64:72] = tail.to_bytes(8, "little")


@pytest.mark.parametrize(
    ("fields", "tail"),
    [
        ((56, 9, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0), 56),  # another kind
        ((56, 1, 64, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0), 56),  # flags
        ((56, 1, 0, 0, 1, 0, 0, 0, 0, 0, 8, 8, 0), 56),  # more content than the record has
        ((64, 1, 0, 0, 1, 0, 0, 0, 8, 0, 4, 8, 0), 64),  # more than there was
        ((64, 1, 0, 0, 1, 0, 0, 0, 4, 4, 4, 0, 0), 64),  # beyond the message
        ((0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0), 56),
        ((60, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0), 64),
        ((4096, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0), 56),  # longer than what is there
        ((56, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0), 65536 + 8),  # more than the ring holds
        ((56, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0), (1 << 64) - 8),
        ((56, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0), 8),
    ],
)
def test_records_that_make_no_sense_are_an_error(fields: tuple[int, ...], tail: int) -> None:
    memory, ring = _ring()
    _put(memory, 0, *fields, tail=tail)
    with pytest.raises(RecordError):
        list(ring.read())


def test_more_content_than_was_asked_for_is_an_error() -> None:
    for offset, fine in ((0, True), (8, True), (9, False), (1 << 31, False)):
        memory, ring = _ring(snaplen=16)
        _put(memory, 0, 64, 1, 2, 0, 1, 0, 0, 0, 0xFFFFFFFF, offset, 8, 8, 0, tail=64)
        if fine:
            assert [record.offset for record in ring.read()] == [offset]
        else:
            with pytest.raises(RecordError):
                list(ring.read())


def test_a_size_that_does_not_fit_is_written_as_the_largest(tmp_path: Path) -> None:
    event = Event(1, Kind.DATA, Flags.MESSAGE, r"\\.\pipe\x", 1, 1, 1, 0, 0xFFFFFFFF, b"x")
    with TraceWriter(tmp_path / "x.pcapng") as writer:
        writer.write(event)
    assert list(read_trace(tmp_path / "x.pcapng")) == [event]
    (tmp_path / "x.jsonl").write_text(as_json(event).replace('"code": 0', '"code": 4294967296'))
    with pytest.raises(TraceFileError):
        list(read_trace(tmp_path / "x.jsonl"))


def test_any_bytes_in_the_ring_are_records_or_an_error() -> None:
    chance = random.Random(17)
    for _ in range(3000):
        memory, ring = _ring()
        position = 0
        for _ in range(chance.randrange(1, 5)):
            fields = (56 + 8 * chance.randrange(3), chance.randrange(6), chance.randrange(70), chance.getrandbits(63))
            rest = [chance.choice((0, 1, 8, 1 << 32 - 1)) for _ in range(9)]
            _put(memory, position, *fields, *rest, tail=position + fields[0])
            position += fields[0]
        assembler = Assembler(r"\\.\pipe\x", 1)
        try:
            for record in ring.read():
                for event in assembler.take(record):
                    as_json(event)
        except RecordError:
            pass
        list(assembler.finish())


def test_a_tracer_without_descriptors_says_so_and_traces_nobody_twice(name: str, child: Callable[..., Child]) -> None:
    servers = [child(SHARED, name)]
    assert servers[0].line() == "listens"
    with Tracer([name]) as tracer:
        servers.append(child(SHARED, name))
        assert servers[1].line() == "listens"
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        lowest = os.open(os.devnull, os.O_RDONLY)
        os.close(lowest)
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, limits[1]))
        try:
            assert list(tracer.events(0)) == []
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        assert tracer.pids == [servers[0].pid]
        (problem,) = tracer.problems
        assert "Too many open descriptors" in problem
        servers.append(child(SHARED, name))
        assert servers[2].line() == "listens"
        assert list(tracer.events(0)) == []
        assert sorted(tracer.pids) == sorted(server.pid for server in servers)


def test_a_tracer_is_told_when_its_arguments_are_wrong(name: str) -> None:
    with pytest.raises(ValueError, match="power of two"):
        Tracer([name], ring_size=100)
    with pytest.raises(ValueError, match="snaplen"):
        Tracer([name], snaplen=-1)
