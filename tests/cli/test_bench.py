"""`npipe bench`: what it measures, what it prints where, and what it does when something is not as it was sent."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

import pytest

import npipe
from npipe.cli.measuring import contest, links, messages, svg
from npipe.cli.measuring.results import Measured, duration, rate
from tests.cli.helpers import DEADLINE, INTERRUPTED, NPIPE, run
from tests.helpers import readable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.slow  # each measures for a while

SHORT = ("bench", "--seconds", "0.3", "--bulk", "4096")
ALL = ["npipe", "multiprocessing.connection", "Unix socket (SEQPACKET)"]
LOOPS = ["npipe.aio", "asyncio, Unix stream"]


def on_a_terminal(columns: int, *arguments: str, **env: str) -> str:
    """What a command writes to a terminal of so many columns."""
    leader, follower = pty.openpty()
    with subprocess.Popen(
        [*NPIPE, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=follower,
        stderr=subprocess.PIPE,
        env={**os.environ, "COLUMNS": str(columns), "TERM": "xterm-256color", "PYTHONIOENCODING": "utf-8", **env},
    ) as process:
        os.close(follower)
        read = b""
        until = time.monotonic() + DEADLINE
        while True:
            ready = readable(leader, max(0.0, until - time.monotonic()))
            assert ready, read
            try:
                piece = os.read(leader, 65536)
            except OSError:  # EIO: the process has closed it
                break
            if not piece:
                break
            read += piece
        os.close(leader)
        _, said = process.communicate(timeout=DEADLINE)
        assert (process.returncode, said) == (0, b"")
    return read.decode()


def test_json_has_percentiles_histogram_and_throughput_of_all() -> None:
    done = run(*SHORT, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    known = json.loads(done.stdout)
    assert (known["version"], known["size"], known["bulk"]) == (npipe.__version__, 64, 4096)
    assert [each["name"] for each in known["measured"]] == ALL
    assert known["left_out"] == {}
    for each in known["measured"]:
        times = each["latency_ns"]
        assert list(times) == ["p50", "p90", "p99", "p99.9", "p99.99", "worst"]
        there = [value for value in times.values() if value is not None]
        assert there == sorted(there)
        assert there[0] > 100
        assert sum(count for _, count in each["histogram_ns"]) == each["round_trips"] > 0
        assert each["bytes"] == each["messages"] * 4096 > 0
        assert each["bytes_per_second"] == pytest.approx(each["bytes"] / each["seconds"])


def test_event_loops_are_measured_when_they_are_asked_for() -> None:
    known = json.loads(run(*SHORT, "--aio", "--json").stdout)
    assert [each["name"] for each in known["measured"]] == [*ALL, *LOOPS]
    assert all(each["round_trips"] and each["messages"] for each in known["measured"])


def test_piped_it_is_lines_of_fields_and_nothing_else() -> None:
    done = run(*SHORT)
    assert (done.returncode, done.stderr) == (0, "")
    first, *rest = [line.split("\t") for line in done.stdout.splitlines()]
    assert first == ["name", "p50", "p90", "p99", "p99.9", "p99.99", "worst", "bytes/s", "messages/s"]
    assert [line[0] for line in rest] == ALL
    assert all(field == "" or field.isdecimal() for line in rest for field in line[1:])


@pytest.mark.parametrize("columns", [40, 60, 120])
def test_a_terminal_of_few_columns_has_all_of_it(columns: int) -> None:
    written = re.sub(r"\x1b\[[0-9;]*m", "", on_a_terminal(columns, *SHORT))
    lines = written.splitlines()
    assert max(map(len, lines)) <= columns
    for name in ALL:
        assert written.count(name) == 3  # its times, its histogram, its throughput
    for column in ("p50", "p99.99", "worst"):
        assert column in written
    assert "█" in written
    assert not re.search(r"…", written)


def test_no_color_is_obeyed() -> None:
    coloured, plain = (on_a_terminal(80, *SHORT, **env) for env in ({}, {"NO_COLOR": "1"}))
    assert re.search(r"\x1b\[[0-9;]*3[0-9]", coloured)
    assert not re.search(r"\x1b\[[0-9;]*3[0-9]", plain)


def test_a_terminal_without_blocks_has_letters() -> None:
    assert on_a_terminal(60, *SHORT, PYTHONIOENCODING="ascii", NO_COLOR="1").isascii()


def test_the_drawing_is_well_formed_and_has_light_and_dark(tmp_path: Path) -> None:
    file = tmp_path / "bench.svg"
    file.write_text("an old one")
    done = run(*SHORT, "--svg", str(file))
    assert (done.returncode, done.stderr) == (0, "")
    text = file.read_text(encoding="utf-8")
    root = ET.fromstring(text)
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    shown = "".join(root.itertext())
    assert all(name in shown for name in ALL)
    assert "prefers-color-scheme: dark" in text
    assert "nan" not in text
    assert list(tmp_path.glob(".*")) == []


def test_a_drawing_that_cannot_be_written_is_told_before_anything_is_measured(tmp_path: Path) -> None:
    before = time.monotonic()
    done = run("bench", "--seconds", "3000", "--svg", str(tmp_path / "not" / "there.svg"))
    assert time.monotonic() - before < DEADLINE
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "No such file or directory" in done.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="no limit on files there")
def test_a_drawing_for_which_there_is_no_room_is_told_of_and_an_older_one_stays(tmp_path: Path) -> None:
    file = tmp_path / "bench.svg"
    file.write_text("older")
    script = (
        "import resource, signal, sys\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "from npipe.cli import bench\n"
        "with bench._written_at_the_end(sys.argv[1]) as write:\n"
        "    resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))\n"
        "    write('x' * 1000)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, file], capture_output=True, text=True, timeout=DEADLINE)
    assert done.stderr.endswith(f"ClickException: {file} cannot be written: File too large\n")
    assert file.read_text() == "older"
    assert list(tmp_path.iterdir()) == [file]


def test_names_in_a_drawing_cannot_break_it() -> None:
    evil = Measured('<b>&"\x00\x1b', round_trips=[1000] * 20, bytes_sent=1, messages_sent=1, seconds_sending=1)
    evil.settle()
    shown = "".join(ET.fromstring(svg.drawn([evil], 64, 64, "a & b <\x00>")).itertext())
    assert '<b>&"' in shown
    assert "a & b <>" in shown


def test_nothing_at_all_can_be_drawn() -> None:
    ET.fromstring(svg.drawn([Measured("none")], 64, 64, ""))


@pytest.mark.parametrize(
    "arguments", [["--size", "15"], ["--size", "1048577"], ["--bulk", "0"], ["--seconds", "0"], ["--seconds", "nan"]]
)
def test_a_wrong_value_is_a_wrong_use(arguments: list[str]) -> None:
    done = run("bench", *arguments)
    assert (done.returncode, done.stdout) == (2, "")


@pytest.mark.alone
def test_ctrl_c_ends_it_and_its_processes(ctrl_c: None, tmp_path: Path) -> None:
    with (
        tempfile.TemporaryDirectory(prefix="npipe-") as folder,  # short enough for all contestants' sockets
        subprocess.Popen(
            [*NPIPE, "bench", "--seconds", "3000", "--svg", str(tmp_path / "x.svg")],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, "TMPDIR": folder},
        ) as process,
        killed_at_the_end(process),
    ):
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        until = time.monotonic() + DEADLINE
        while len(pids := children.read_text().split()) < len(ALL):  # a look at the system: nothing tells of it
            assert time.monotonic() < until
        ends = [os.pidfd_open(int(pid)) for pid in pids]
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=DEADLINE)
        assert (process.returncode, out, err) == (INTERRUPTED, b"", b"")
        for end in ends:
            assert readable(end, DEADLINE)
            os.close(end)
        assert list(Path(folder).iterdir()) == []
    assert list(tmp_path.iterdir()) == [tmp_path / "npipe-root"]


@contextlib.contextmanager
def killed_at_the_end(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """It has ended when the block has, though that may have failed."""
    try:
        yield
    finally:
        process.kill()


@pytest.mark.alone
def test_its_processes_end_with_it_when_it_is_killed() -> None:
    with (
        subprocess.Popen([*NPIPE, "bench", "--seconds", "3000"], stdout=subprocess.PIPE) as process,
        killed_at_the_end(process),
    ):
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        until = time.monotonic() + DEADLINE
        while len(pids := children.read_text().split()) < len(ALL):  # a look at the system: nothing tells of it
            assert time.monotonic() < until
        ends = [os.pidfd_open(int(pid)) for pid in pids]
        process.kill()
    for end in ends:
        assert readable(end, DEADLINE)
        os.close(end)


def test_a_root_that_cannot_be_used_is_one_line(root: Path) -> None:
    root.mkdir()
    root.chmod(0o777)
    done = run(*SHORT)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.count("\n") == 1
    assert "root folder" in done.stderr


# ---- What differs, and who goes


class Altered:
    """A link whose n-th message comes back, or goes out, as another one."""

    def __init__(self, link: links.Link, alter: Callable[[bytes], bytes], *, sent: bool, at: int) -> None:
        self._link = link
        self._alter = alter
        self._sent = sent
        self._left = at
        self.close = link.close

    def _now(self) -> bool:
        self._left -= 1
        return self._left == 0

    def send(self, message: bytes | bytearray) -> object:
        return self._link.send(self._alter(bytes(message)) if self._sent and self._now() else message)

    def recv(self) -> bytes:
        received = self._link.recv()
        return self._alter(received) if not self._sent and self._now() else received


ALTERATIONS: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "a bit": (lambda message: message[:-1] + bytes([message[-1] ^ 1]), "differs from byte"),
    "the number": (lambda message: message[:1] + bytes([message[1] ^ 1]) + message[2:], "differs from byte 1 on"),
    "an end": (lambda message: message[:-1], "bytes in place of"),
    "more": (lambda message: message + b"x", "bytes in place of"),
}


@pytest.mark.parametrize("alteration", ALTERATIONS)
@pytest.mark.parametrize("sent", [False, True])
def test_a_message_that_is_another_ends_the_measurement(
    alteration: str, sent: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    alter, told = ALTERATIONS[alteration]
    genuine = links.dial_blocking
    monkeypatch.setattr(
        contest,
        "dial_blocking",
        lambda *arguments: Altered(genuine(*arguments), alter, sent=sent, at=300),
    )
    settings = contest.Settings(seconds=1, size=64, bulk=64, aio=False)
    with pytest.raises(contest.ContestError, match=f"^npipe: message .*{told}"):
        with contest.Contest(settings) as made:
            made.run(lambda _: None)


def test_a_loss_one_way_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    class Losing(Altered):
        def send(self, message: bytes | bytearray) -> object:
            if message[0] == messages.ONE_WAY and self._now():
                return None
            return self._link.send(message)

    genuine = links.dial_blocking
    monkeypatch.setattr(
        contest, "dial_blocking", lambda *arguments: Losing(genuine(*arguments), bytes, sent=True, at=40)
    )
    with pytest.raises(contest.ContestError, match=r"^npipe: message \d+ differs"):
        with contest.Contest(contest.Settings(seconds=1, size=64, bulk=64, aio=False)) as made:
            made.run(lambda _: None)


@pytest.mark.parametrize("kind", contest.NAMES)
def test_a_process_that_dies_is_told_with_its_name(kind: str) -> None:
    settings = contest.Settings(seconds=3000, size=64, bulk=65536, aio=True)
    with pytest.raises(contest.ContestError, match=f"^{re.escape(contest.NAMES[kind])}: its process has ended"):
        with contest.Contest(settings) as made:
            (victim,) = [each for each in made._contestants if each.measured.name == contest.NAMES[kind]]
            begun = threading.Event()

            def kill() -> None:
                begun.wait(DEADLINE)
                victim._process.kill()

            killer = threading.Thread(target=kill)
            killer.start()
            try:
                made.run(lambda _: begun.set())
            finally:
                killer.join(DEADLINE)


def test_a_process_that_cannot_begin_is_told_with_its_last_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(contest.ContestError, match=r"^npipe: its process has ended$"):
        with contest.Contest(contest.Settings(seconds=1, size=64, bulk=64, aio=False)):
            pytest.fail("it has begun")


def test_a_process_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contest, "_PATIENCE", 0.5)
    settings = contest.Settings(seconds=0.2, size=64, bulk=64, aio=False)
    with pytest.raises(contest.ContestError, match=r"^npipe: its process has ended"):
        with contest.Contest(settings) as made:
            os.kill(made._contestants[0]._process.pid, signal.SIGSTOP)
            made.run(lambda _: None)


def test_a_packet_that_the_system_has_no_room_for_leaves_the_socket_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contest, "_too_large_for_a_packet", lambda size: f"no packet of {size} bytes fits")
    with contest.Contest(contest.Settings(seconds=0.2, size=64, bulk=65536, aio=False)) as made:
        assert made.left_out == {"Unix socket (SEQPACKET)": "no packet of 65536 bytes fits"}
        assert [each.name for each in made.run(lambda _: None)] == ALL[:2]


def test_the_largest_packet_is_measured_or_left_out_with_the_reason() -> None:
    known = json.loads(run("bench", "--seconds", "0.3", "--bulk", str(2**20), "--json").stdout)
    names = [each["name"] for each in known["measured"]]
    assert names == [name for name in ALL if name not in known["left_out"]]
    assert all("wmem_max" in why for why in known["left_out"].values())


# ---- Statistics


def test_percentiles_are_the_nearest_rank_and_unknown_where_too_few_tell() -> None:
    measured = Measured("x", round_trips=list(range(1000, 0, -1)))
    measured.settle()
    assert measured.percentiles() == {
        "p50": 500, "p90": 900, "p99": 990, "p99.9": 999, "p99.99": None, "worst": 1000,
    }  # fmt: skip
    assert Measured("x").percentiles() == dict.fromkeys(("p50", "p90", "p99", "p99.9", "p99.99", "worst"))


def test_histogram_counts_each_round_trip_below_its_bound() -> None:
    measured = Measured("x", round_trips=[0, 1, 999, 1000, 1001, 10**9])
    found = measured.histogram()
    assert sum(count for _, count in found) == 6
    assert [bound for bound, _ in found] == sorted(bound for bound, _ in found)
    assert found[-1][0] >= 10**9


@pytest.mark.parametrize(
    ("nanoseconds", "text"),
    [(0, "0 ns"), (999, "999 ns"), (1000, "1.00 µs"), (9994, "9.99 µs"), (9996, "10.0 µs"), (99_960, "100 µs"),
     (999_600, "1.00 ms"), (2.5e9, "2.50 s"), (4e12, "4000 s"), (None, "–")],
)  # fmt: skip
def test_times_have_three_digits(nanoseconds: float | None, text: str) -> None:
    assert duration(nanoseconds) == text


def test_rates_have_three_digits() -> None:
    assert [rate(value) for value in (0, 12, 1234, 5.96e9)] == ["0 B/s", "12 B/s", "1.23 kB/s", "5.96 GB/s"]
