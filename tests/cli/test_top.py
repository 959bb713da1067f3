"""`npipe top` on a terminal: its screens over real servers and clients, by textual's pilot and in a pseudo-terminal."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
import time
from typing import TYPE_CHECKING, Self

import pytest

pytest.importorskip("textual", reason="the extra `monitor` is not installed")

import npipe
from npipe.cli._monitor.sampling import Sampler
from npipe.cli._monitor.view import Monitor, _Pipe, _Pipes
from npipe.tracing.events import Event, Flags, Kind
from tests.cli.helpers import DEADLINE, INTERRUPTED, NPIPE, run
from tests.helpers import readable, stop

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from textual.pilot import Pilot

    from npipe.cli._monitor.model import PipeRow
    from tests.conftest import Child

pytestmark = pytest.mark.slow  # each draws some hundred screens

SERVER = """
import sys
import npipe
listener = npipe.listen(sys.argv[1], traceable=sys.argv[2:] != ["no"])
print("listens", flush=True)
with npipe.serve(sys.argv[1] + "-other", bytes.upper):
    while True:
        pipe = listener.accept()
        print("accepted", flush=True)
        try:
            while True:
                pipe.send(pipe.recv().upper())
        except npipe.PipeError:
            pipe.close()
"""


@pytest.fixture
def name(name: str) -> str:
    """A pipe's name, the short form."""
    return name.removeprefix("\\\\.\\pipe\\")


class Seen(Monitor):
    """The monitor, and a way to wait for what it shows."""

    def __init__(self, names: list[str] | None = None, interval: float = 0.25) -> None:
        super().__init__(Sampler(names, interval), names)
        self.displayed = asyncio.Event()

    def post_display_hook(self) -> None:
        self.displayed.set()

    def text(self) -> str:
        """What is on the screen."""
        strips = self.screen._compositor.render_strips()
        return "\n".join("".join(segment.text for segment in strip) for strip in strips)

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait until what is shown is so."""
        limit = time.monotonic() + DEADLINE
        while not condition():
            self.displayed.clear()
            try:
                await asyncio.wait_for(self.displayed.wait(), limit - time.monotonic())
            except TimeoutError:
                raise AssertionError(f"never shown, but:\n{self.text()}") from None

    async def shows(self, pattern: str) -> None:
        await self.until(lambda: re.search(pattern, self.text()))

    async def shows_not(self, pattern: str) -> None:
        await self.until(lambda: not re.search(pattern, self.text()))

    def row(self, name: str) -> PipeRow:
        return self.board.pipes[rf"\\.\pipe\{name}"].row()


def piloted(
    act: Callable[[Seen, Pilot[None]], Awaitable[None]],
    *,
    names: list[str] | None = None,
    size: tuple[int, int] = (120, 30),
) -> Seen:
    """Run the monitor, and act upon it."""

    async def main() -> Seen:
        seen = Seen(names)
        async with seen.run_test(size=size) as pilot:
            await act(seen, pilot)
        return seen

    return asyncio.run(main())


@pytest.fixture
def served(child: Callable[..., Child], name: str) -> Child:
    """A server of `name`, and of `name`-other."""
    server = child(SERVER, name)
    assert server.line() == "listens"
    return server


async def opened(seen: Seen, pilot: Pilot[None], name: str) -> _Pipe:
    """Go to a pipe's screen, by the filter and enter."""
    await seen.until(lambda: rf"\\.\pipe\{name}" in seen.board.pipes)
    seen.screen.table.sort_by("name")  # type: ignore[attr-defined]
    await pilot.press("slash", *name, "enter", "home", "enter")
    await seen.until(lambda: isinstance(seen.screen, _Pipe))
    assert isinstance(seen.screen, _Pipe)
    return seen.screen


def test_pipes_and_their_rates_are_shown_sorted_and_filtered(served: Child, name: str) -> None:
    async def act(seen: Seen, pilot: Pilot[None]) -> None:
        await seen.shows(r"2 pipes, 1 client;")
        await pilot.press("s", "s", "s", "s")
        while not (rates := seen.row(name).rates) or rates.bytes_in == 0:
            client.send(b"x" * 1000)
            client.recv()
            await pilot.pause()
        await seen.until(lambda: (row := seen.row(name)).history and max(r.bytes_out for r in row.history) > 0)
        table = seen.screen.table  # type: ignore[attr-defined]
        table.sort_by("name")
        await seen.until(lambda: [row.name[9:] for row in table.shown] == sorted([name, f"{name}-other"]))
        await pilot.press("r")
        assert [row.name[9:] for row in table.shown] == [f"{name}-other", name]
        await pilot.press("slash", *"OTHER")
        await seen.shows(r"1 of 2 pipes")
        assert [row.name[9:] for row in table.shown] == [f"{name}-other"]
        await pilot.press(*"zzz")
        await seen.shows("no pipe has these words")
        await pilot.press("escape")
        await seen.shows(r"2 pipes, ")

    with npipe.connect(name, timeout=20) as client:
        piloted(act)


def test_one_pipe_has_its_connections_and_its_messages_while_it_is_shown(served: Child, name: str) -> None:
    async def act(seen: Seen, pilot: Pilot[None]) -> None:
        screen = await opened(seen, pilot, f"{name}-other")
        await pilot.press("escape")
        await seen.until(lambda: isinstance(seen.screen, _Pipes))
        await pilot.press("escape")
        screen = await opened(seen, pilot, name)
        if seen.screen.name_of_pipe != rf"\\.\pipe\{name}":  # type: ignore[attr-defined]
            raise AssertionError(seen.screen.name_of_pipe)  # type: ignore[attr-defined]
        await seen.until(lambda: screen._messages is not None and screen._messages.pids == (served.pid,))
        client.send("hello \x1b[31m\u202e\0".encode() + b"\xff\xfe")
        client.recv()
        await seen.shows(r"-> 17 hello \\x1b\[31m\\u202e\\x00\\xff\\xfe")
        await seen.shows(r"<- 17 HELLO")
        await pilot.press("x")
        await seen.shows(r"-> 17 68 65 6c 6c 6f 20 1b")
        await pilot.press("p", "x")
        client.send(b"while it is held")
        client.recv()
        await seen.shows(r"held, 2 not shown")
        await pilot.press("p")
        client.send(b"and then")
        client.recv()
        await seen.shows(r"-> 8 and then")
        assert "while it is held" not in seen.text()
        await pilot.press("m")
        await seen.shows("not looked at")
        assert screen._messages is None
        await pilot.press("m")
        await seen.until(lambda: screen._messages is not None and screen._messages.pids)
        watcher = screen._messages
        await pilot.press("escape")
        await seen.until(lambda: isinstance(seen.screen, _Pipes))
        assert watcher is not None
        assert watcher._stopped.is_set()

    with npipe.connect(name, timeout=20) as client:
        piloted(act)


def test_the_messages_of_one_client_alone(name: str, child: Callable[..., Child]) -> None:
    speaker = """
        import sys, npipe
        with npipe.connect(sys.argv[1], timeout=20) as pipe:
            print("connected", flush=True)
            for line in sys.stdin:
                pipe.send(line.strip().encode())
                pipe.recv()
    """

    async def act(seen: Seen, pilot: Pilot[None]) -> None:
        screen = await opened(seen, pilot, name)
        await seen.until(lambda: len(screen.table.shown) == 2 and screen._messages and screen._messages.pids)
        wanted, other = clients
        screen.table.sort_by("client")
        index = [row.pid for row in screen.table.shown].index(wanted.pid)
        await pilot.press("home", *["down"] * index, "enter")
        await seen.shows(rf"messages of process {wanted.pid}")
        other.say("of the other one")
        wanted.say("of this one")
        await seen.shows(r"<- 11 OF THIS ONE")
        assert "OTHER" not in seen.text()

    with npipe.serve(name, bytes.upper):
        clients = [child(speaker, name) for _ in range(2)]
        for one in clients:
            assert one.line() == "connected"
        piloted(act)


def test_a_server_that_forbids_tracing_is_shown_without_messages(child: Callable[..., Child], name: str) -> None:
    server = child(SERVER, name, "no")
    assert server.line() == "listens"

    async def act(seen: Seen, pilot: Pilot[None]) -> None:
        await opened(seen, pilot, name)
        await seen.shows(r"messages: none: .*traceable=False")
        await seen.shows(rf"process {server.pid} of ")

    piloted(act, names=[rf"\\.\pipe\{name}"], size=(160, 30))


def test_a_pipe_that_vanishes_while_it_is_shown_and_comes_again(
    served: Child, child: Callable[..., Child], name: str
) -> None:
    async def act(seen: Seen, pilot: Pilot[None]) -> None:
        screen = await opened(seen, pilot, name)
        await seen.until(lambda: screen._messages is not None and screen._messages.pids)
        served.kill()
        await seen.shows(r"! there is no such pipe")
        await seen.shows(r"messages: none: ")
        again = child(SERVER, name)
        assert again.line() == "listens"
        await seen.shows(rf"process {again.pid} of ")
        await seen.until(lambda: screen._messages is not None and screen._messages.pids == (again.pid,))
        with npipe.connect(name, timeout=20) as client:
            client.send(b"after that")
            client.recv()
            await seen.shows("AFTER THAT")
        await pilot.press("escape")
        again.kill()
        await seen.until(lambda: isinstance(seen.screen, _Pipes) and seen.row(name).gone)

    piloted(act)


def test_pipes_that_were_asked_for_are_shown_before_they_are_there(name: str) -> None:
    async def act(seen: Seen, pilot: Pilot[None]) -> None:
        await seen.until(lambda: seen.board.pipes and seen.row(name).gone)
        with npipe.listen(name):
            await seen.until(lambda: not seen.row(name).gone)
        await seen.until(lambda: seen.row(name).gone)

    piloted(act, names=[rf"\\.\pipe\{name}"])


def test_an_owner_that_does_not_answer_holds_up_nobody(served: Child, name: str) -> None:
    async def act(seen: Seen, pilot: Pilot[None]) -> None:
        await seen.until(lambda: len(seen.board.pipes) == 3)
        stop(served.pid)
        try:
            await seen.until(lambda: seen.row(name).problem and seen.row(f"{name}-other").problem)
            silent = seen.source._silent  # type: ignore[attr-defined]
            assert silent == {rf"\\.\pipe\{name}", rf"\\.\pipe\{name}-other"}
            # The other one's answers come as often as before: many, between two of those that are waited for.
            last = seen.board.pipes[rf"\\.\pipe\{name}"]._last
            await seen.until(lambda: seen.board.pipes[rf"\\.\pipe\{name}"]._last is not last)
            last = seen.board.pipes[rf"\\.\pipe\{name}"]._last
            answers = len(seen.row(f"{name}-third").history)
            await seen.until(lambda: seen.board.pipes[rf"\\.\pipe\{name}"]._last is not last)
            assert len(seen.row(f"{name}-third").history) >= answers + 3
            before = time.monotonic()
            await pilot.press("s", "s", "slash", "a", "escape")
            assert time.monotonic() - before < 5
        finally:
            os.kill(served.pid, signal.SIGCONT)
        await seen.until(lambda: seen.row(name).problem is None and seen.row(f"{name}-other").problem is None)
        assert silent == set()

    with npipe.serve(f"{name}-third", bytes.upper):
        piloted(act)


def test_ended_connections_are_told_and_hidden(served: Child, child: Callable[..., Child], name: str) -> None:
    leaks = """
        import sys, npipe
        listener = npipe.listen(sys.argv[1])
        print("listens", flush=True)
        kept = []
        for _ in range(2):
            kept.append(listener.accept())
            print("accepted", flush=True)
        sys.stdin.readline()
        kept[0].close()
        sys.stdin.readline()
    """

    async def act(seen: Seen, pilot: Pilot[None]) -> None:
        await seen.shows(r"; 1 ended and not released")
        assert (seen.row(f"{name}-leak").clients, seen.row(f"{name}-leak").ended) == (2, 1)
        screen = await opened(seen, pilot, f"{name}-leak")
        await seen.shows(r"2 connections, 1 ended \(e hides\)")
        assert [(row.left, row.idle_exactly) for row in screen.table.shown] == [(False, True), (True, True)]
        await seen.shows(rf"(?m)^{os.getpid()} .* ended ")
        await pilot.press("e")
        await seen.shows(r"1 connection and 1 ended \(hidden: e\)")
        assert [row.left for row in screen.table.shown] == [False]
        await pilot.press("e")
        await seen.shows(r"2 connections, 1 ended \(e hides\)")
        leaking.say("release")
        await seen.shows(r", 1 connection *\n")
        assert seen.row(f"{name}-leak").ended == 0

    leaking = child(leaks, f"{name}-leak")
    assert leaking.line() == "listens"
    with npipe.connect(f"{name}-leak", timeout=20):
        assert leaking.line() == "accepted"
    with npipe.connect(f"{name}-leak", timeout=20):
        assert leaking.line() == "accepted"
        piloted(act)


@pytest.mark.parametrize("width", [40, 60, 120])
def test_a_question_mark_shows_the_keys(served: Child, name: str, width: int) -> None:
    async def act(seen: Seen, pilot: Pilot[None]) -> None:
        await seen.shows(r"2 pipes, ")
        await pilot.press("question_mark")
        await seen.shows(r"enter esc  one pipe, and back")
        lines = seen.text().split("\n")
        assert len(lines) == 12
        assert all(len(line) == width for line in lines)
        assert "hide who has ended" not in seen.text()
        await pilot.press("end")
        await seen.shows(r"inst       instances, and the limit")
        await pilot.press("question_mark")
        await seen.shows(r"2 pipes, ")
        screen = await opened(seen, pilot, name)
        await pilot.press("question_mark")
        await seen.shows(r"enter esc  one pipe, and back")
        await pilot.press("escape")
        await seen.until(lambda: seen.screen is screen)
        await pilot.press("escape", "slash", "question_mark")
        await seen.shows(r"no pipe has these words")  # it was for the filter

    piloted(act, size=(width, 12))


@pytest.mark.parametrize(
    ("width", "heads", "of_one"),
    [
        (40, "pipe in/s out/s rate▾ clnts", "client in/s out/s rate▾ depth"),
        (60, "pipe in/s out/s rate▾ clnts depth rd/wr queue", "client in/s out/s rate▾ depth rd/wr idle moved"),
    ],
)
def test_narrow_terminals_leave_columns_out_and_wrap_nothing(
    served: Child, name: str, width: int, heads: str, of_one: str
) -> None:
    async def act(seen: Seen, pilot: Pilot[None]) -> None:
        await seen.shows(r"2 pipes, 1 client")
        lines = seen.text().split("\n")
        assert len(lines) == 16
        assert all(len(line) == width for line in lines)
        assert lines[2].split() == heads.split()
        assert [line.split()[0][:6] for line in lines[3:5]] == [name[:6]] * 2
        assert all(not line.strip() for line in lines[5:15])
        await opened(seen, pilot, name)
        await seen.shows(rf"(?m)^{os.getpid()} ")
        lines = seen.text().split("\n")
        assert len(lines) == 16
        assert all(len(line) == width for line in lines)
        assert of_one.split() in [line.split() for line in lines]

    with npipe.connect(name, timeout=20):
        piloted(act, size=(width, 16))


NASTY = "evil\x1b[2J\x07\u202e[b]x[/b]\u65e5\u672c"


@pytest.mark.parametrize("width", [20, 40, 80, 200])
def test_names_with_control_characters_on_terminals_of_any_width(width: int) -> None:
    async def act(seen: Seen, pilot: Pilot[None]) -> None:
        await seen.until(lambda: seen.board.pipes)
        await seen.shows(r"evil")
        for keys in (("s", "r"), ("enter",), ("x", "m", "m"), ("tab",), ("escape",)):
            await pilot.press(*keys)
            text = seen.text()
            assert text.replace("\n", "").isprintable(), ascii(text)
            assert len(text.split("\n")) == 12
        if width >= 80:
            assert r"evil\x1b[2J" in text

    with npipe.listen("\\\\?\\pipe\\" + NASTY):
        piloted(act, size=(width, 12))


def test_no_pipes_says_where_it_has_looked(root: object) -> None:
    async def act(seen: Seen, pilot: Pilot[None]) -> None:
        await seen.shows(r"no pipes below .*npipe-root")
        await seen.shows(r"0 pipes, 0 clients")
        await pilot.press("enter", "down", "up", "pagedown", "end", "home", "s", "minus", "plus", "space", "space", "b")
        await seen.shows(r"each 0\.5 s, rates in messages")

    piloted(act, size=(200, 20))


def test_a_root_that_cannot_be_trusted_is_an_error_that_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NPIPE_ROOT", "/proc/1/nothing")

    async def act(seen: Seen, pilot: Pilot[None]) -> None:
        await seen.shows(r"no pipes|WinError")

    piloted(act)


def test_a_click_selects_and_a_head_sorts(served: Child, name: str) -> None:
    async def act(seen: Seen, pilot: Pilot[None]) -> None:
        await seen.shows(r"2 pipes")
        table = seen.screen.table  # type: ignore[attr-defined]
        await pilot.click("#pipes", offset=(2, 0))
        assert table.sort_key == "name"
        assert not table.backwards
        await pilot.click("#pipes", offset=(2, 0))
        assert table.backwards
        await pilot.click("#pipes", offset=(2, 1))
        wanted = table.current.name
        await pilot.click("#pipes", offset=(2, 1))
        await seen.until(lambda: isinstance(seen.screen, _Pipe))
        assert seen.screen.name_of_pipe == wanted  # type: ignore[attr-defined]

    piloted(act)


def test_messages_that_come_too_fast_are_lost_and_that_is_said(served: Child, name: str) -> None:
    class Flood:
        lost, problem, pids = 12, None, (served.pid,)

        def take(self) -> list[Event]:
            flags = Flags.FIRST | Flags.LAST | Flags.MESSAGE
            return [Event(0, Kind.DATA, flags, name, served.pid, 1, 2, 0, 1, b"%d" % i) for i in range(3000)]

        def stop(self) -> None: ...

    async def act(seen: Seen, pilot: Pilot[None]) -> None:
        def look_on(_name: str, tell: Callable[[], object]) -> Flood:
            seen.call_later(tell)
            return Flood()

        seen.look_on = look_on  # type: ignore[assignment]
        screen = await opened(seen, pilot, name)
        await seen.shows(r"messages, 12 lost")
        await seen.shows(r"1 2999")
        assert screen.lines.count == 2000
        await pilot.press("tab", "g")
        await seen.shows(r"1 1000")
        await pilot.press("G")
        await seen.shows(r"1 2999")

    piloted(act)


# ---- In a pseudo-terminal


class Terminal:
    """`npipe top` in a pseudo-terminal."""

    def __init__(self, *arguments: str, size: tuple[int, int] = (100, 24), **env: str) -> None:
        self.master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("4H", size[1], size[0], 0, 0))
        self.modes = termios.tcgetattr(slave)
        self.process = subprocess.Popen(
            [*NPIPE, "top", *arguments],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            env={**os.environ, "TERM": "xterm-256color", **env},
        )
        self.slave = slave
        self.output = b""

    def until(self, pattern: bytes) -> None:
        """Read until it has written that."""
        limit = time.monotonic() + DEADLINE
        while not re.search(pattern, self.output):
            ready = readable(self.master, max(0.0, limit - time.monotonic()))
            assert ready, self.output
            self.output += os.read(self.master, 65536)

    def type(self, text: str) -> None:
        os.write(self.master, text.encode())

    def end(self) -> int:
        """Its exit status, when all that it has written is read."""
        limit = time.monotonic() + DEADLINE
        while self.process.poll() is None or readable(self.master, 0):
            if readable(self.master, 0.1):
                self.output += os.read(self.master, 65536)
            assert time.monotonic() < limit, self.output
        return self.process.returncode

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait(DEADLINE)
        os.close(self.master)
        os.close(self.slave)


@pytest.mark.parametrize(
    ("end", "status"),
    [
        ("q", 0),
        ("\x03", INTERRUPTED),
        (signal.SIGINT, INTERRUPTED),
        (signal.SIGTERM, 143),
        (signal.SIGHUP, 129),
    ],
)
def test_it_ends_cleanly_and_leaves_the_terminal_as_it_was(served: Child, name: str, end: object, status: int) -> None:
    with Terminal() as terminal:
        terminal.until(b"2 pipes")
        if isinstance(end, str):
            terminal.type(end)
        else:
            terminal.process.send_signal(signal.Signals(end))  # type: ignore[arg-type]
        assert terminal.end() == status
        assert b"\x1b[?1049l" in terminal.output
        assert b"Traceback" not in terminal.output
        assert termios.tcgetattr(terminal.slave) == terminal.modes


def test_ctrl_c_ends_it_also_in_the_filter_and_with_an_owner_that_hangs(served: Child) -> None:
    with Terminal() as terminal:
        terminal.until(b"2 pipes")
        stop(served.pid)
        try:
            terminal.type("/abcdefgh")
            terminal.until(b"no pipe has these words")
            terminal.type("\x03")
            assert terminal.end() == INTERRUPTED
        finally:
            os.kill(served.pid, signal.SIGCONT)


def test_no_colour_where_nobody_wants_one(served: Child) -> None:
    with Terminal(NO_COLOR="1") as terminal:
        terminal.until(b"2 pipes")
        terminal.type("jq")
        assert terminal.end() == 0
    styles = re.findall(rb"\x1b\[([0-9;]*)m", terminal.output)
    numbers = {number for style in styles for number in style.split(b";")}
    assert numbers <= {b"", b"0", b"1", b"2", b"4", b"7", b"22", b"24", b"27", b"39", b"49"}, numbers


def test_without_a_terminal_it_says_so_and_what_to_use(name: str) -> None:
    done = run("top")
    assert (done.returncode, done.stdout) == (9, "")
    assert done.stderr == (
        "npipe: npipe top needs a terminal: use `npipe top --batch`, `npipe ls -l --watch` or `npipe metrics`\n"
    )


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (["--count", "3"], 2),
        (["--web", "0", "--json"], 2),
        (["--interval", "0"], 2),
        ([r"\\elsewhere\pipe\x"], 2),
        (["a\\b\0c"[:2] + "/../.."], 2),
    ],
)
def test_wrong_use_is_one_line(arguments: list[str], status: int) -> None:
    done = run("top", *arguments)
    assert done.returncode == status
    assert done.stderr.startswith("npipe: ")
    assert done.stderr.count("\n") == 1


def test_without_its_library_it_says_what_to_install(name: str) -> None:
    block = (
        "import sys; sys.modules['textual'] = None; import npipe.cli; sys.exit(npipe.cli.main(['top', *sys.argv[1:]]))"
    )
    with Terminal() as terminal:
        terminal.process.kill()
        done = subprocess.Popen(
            [sys.executable, "-c", block], stdin=terminal.slave, stdout=terminal.slave, stderr=terminal.slave
        )
        terminal.until(rb"npipe: npipe top needs textual, of the extra `monitor`: pip install 'npipe\[monitor\]'\r\n")
        assert done.wait(DEADLINE) == 1
    batch = subprocess.run(
        [sys.executable, "-c", block, "--batch", "-n", "1"], capture_output=True, text=True, timeout=DEADLINE
    )
    assert (batch.returncode, batch.stderr) == (0, "")


# ---- For scripts


def test_batch_prints_fields_between_tabs(served: Child, name: str) -> None:
    done = run("top", "--batch", "-n", "2", "--interval", "0.1", name, f"{name}-none")
    assert (done.returncode, done.stderr) == (0, "")
    head, *lines = [line.split("\t") for line in done.stdout.splitlines()]
    rows = [dict(zip(head, line, strict=True)) for line in lines]
    assert [row["name"][9:] for row in rows] == [name, f"{name}-none"] * 2
    assert rows[0]["bytes in/s"] == "0.0"
    assert (rows[0]["clients"], rows[0]["ended"]) == ("0", "0")
    assert rows[0]["pid"] == str(served.pid)
    assert rows[0]["problem"] == ""
    assert rows[1]["problem"] == "there is no such pipe"


@pytest.mark.usefixtures("ctrl_c")
def test_json_is_a_line_for_each_picture_until_ctrl_c(served: Child, name: str) -> None:
    import json

    process = subprocess.Popen(
        [*NPIPE, "top", "--json", "--interval", "0.1"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    with process:
        assert process.stdout is not None
        for _ in range(3):
            told = json.loads(process.stdout.readline())
            assert [pipe["name"][9:] for pipe in told["pipes"]] == [name, f"{name}-other"]
            assert (told["pipes"][0]["clients"], told["pipes"][0]["ended"]) == (0, 0)
            assert told["pipes"][0]["rates"] == {"bytes_in": 0, "bytes_out": 0, "messages_in": 0, "messages_out": 0}
        process.send_signal(signal.SIGINT)
        assert process.wait(DEADLINE) == INTERRUPTED
        assert process.stderr is not None
        assert process.stderr.read() == ""


def test_who_has_seen_enough_of_a_batch_gets_no_error(served: Child) -> None:
    process = subprocess.Popen(
        [*NPIPE, "top", "--batch", "--interval", "0.1"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    with process:
        assert process.stdout is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.wait(DEADLINE) == 0
        assert process.stderr is not None
        assert process.stderr.read() == ""


@contextlib.contextmanager
def crowd(name: str, child: Callable[..., Child], count: int) -> Iterator[Child]:
    """A server with so many connections, of which one after the other says something."""
    clients = """
        import sys, npipe
        pipes = [npipe.connect(sys.argv[1], timeout=30) for _ in range(int(sys.argv[2]))]
        print("connected", flush=True)
        while sys.stdin.readline():
            for pipe in pipes:
                pipe.send(b"x" * 100)
                pipe.recv()
            print("said", flush=True)
    """
    server = child(
        SERVER.replace("listener = ", "crowd = npipe.serve(sys.argv[1] + '-crowd', bytes.upper); listener = "), name
    )
    assert server.line() == "listens"
    crowds = [child(clients, f"{name}-crowd", str(count // 10)) for _ in range(10)]
    for one in crowds:
        assert one.line(60.0) == "connected"
    for one in crowds:
        one.say("go")
    for one in crowds:
        assert one.line(60.0) == "said"
    yield server


@pytest.mark.timeout(180)
def test_a_thousand_connections_are_shown_and_cost_little(name: str, child: Callable[..., Child]) -> None:
    async def act(seen: Seen, pilot: Pilot[None]) -> None:
        screen = await opened(seen, pilot, f"{name}-crowd")
        await seen.until(lambda: len(screen.table.shown) == 1000)
        assert {row.bytes for row in screen.table.shown} == {200}
        await seen.shows(r"1000 connections")
        screen.table.sort_by("client")
        order = [row.key for row in screen.table.shown]
        await pilot.press("end")
        assert screen.table.current is not None
        assert screen.table.current.key == order[-1]
        await pilot.press("slash", *str(screen.table.shown[0].pid))
        await seen.shows(r"100 of 1000 connections")
        # A picture costs the process some hundredths of a second: by far less than the second for which it stands.
        answers = len(seen.row(f"{name}-crowd").history)
        before = time.process_time()
        await seen.until(lambda: len(seen.row(f"{name}-crowd").history) >= answers + 10)
        assert (time.process_time() - before) / 10 < 0.5

    with crowd(name, child, 1000):
        piloted(act)
