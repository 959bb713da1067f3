"""`pytest --npipe`: the doors for programs that use Windows' pipes, for a test session or for single tests.

There are an echo server for tests and a trace of their pipes too, with or without it. A plugin of pytest's, found by
its entry point; without `--npipe`, and where nobody asks for its fixtures, it does nothing. docs/porting.md shows it.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

import pytest

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from npipe.servers import Server
    from npipe.tracing.events import Event
    from npipe.win32 import Installation

__all__ = [
    "EchoServer",
    "PipeMessage",
    "PipeTrace",
    "echo_server",
    "npipe_windows",
    "pipe_name",
    "pipe_trace",
    "pytest_addoption",
    "pytest_configure",
    "pytest_itemcollected",
    "pytest_load_initial_conftests",
    "pytest_runtest_makereport",
]

_numbers = itertools.count(1)
_DEADLINE: Final = 30.0  # seconds for a process to begin, or to end
_SHOWN: Final = 100  # lines of a trace in a report
_LONGEST: Final = 500  # characters of such a line
_SNAPLEN: Final = 1 << 20


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options; see `pytest --help`."""
    group = parser.getgroup("npipe", "programs for Windows' named pipes (npipe)")
    group.addoption(
        "--npipe",
        action="store_true",
        help="open npipe's doors for the session: pywin32's modules, open() and os on pipes' names, asyncio's Proactor "
        "loop, ctypes' kernel32, _winapi and msvcrt, and all of it for child processes. On Windows: nothing.",
    )
    group.addoption(
        "--npipe-as-windows",
        action="store_true",
        help="with --npipe: the tests' own modules are told that they run on Windows (sys.platform, os.name)",
    )
    group.addoption(
        "--npipe-also",
        action="append",
        default=[],
        metavar="PACKAGE",
        help="with --npipe: this package is told so too (may be given several times)",
    )


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> None:
    """Open the doors before any conftest.py is imported: it may import what they lead to."""
    options = early_config.known_args_namespace
    if (options.npipe_as_windows or options.npipe_also) and not options.npipe:
        raise pytest.UsageError("--npipe-as-windows and --npipe-also go with --npipe")
    if options.npipe:
        told = [str(early_config.rootpath), *options.npipe_also] if options.npipe_as_windows else options.npipe_also
        # The cleanup comes at the session's end, be it one that a conftest.py has kept from beginning.
        early_config.add_cleanup(_install(told or False).uninstall)


def pytest_configure(config: pytest.Config) -> None:
    """Make the mark known."""
    config.addinivalue_line(
        "markers",
        "echo_server(process=False, **options): how the fixture echo_server serves: in a process of its own, and with "
        "which options of npipe.serve",
    )
    config.addinivalue_line(
        "markers",
        "pipe_trace(snaplen=1048576): how many bytes of each message the fixture pipe_trace keeps",
    )


def pytest_itemcollected(item: pytest.Item) -> None:
    """Let a test's doors be open before its other fixtures begin, and until they end: monkeypatch may stand on them."""
    names: list[str] = getattr(item, "fixturenames", [])
    if npipe_windows.__name__ in names:
        found = getattr(getattr(item, "_fixtureinfo", None), "name2fixturedefs", {})
        scopes = {name: definitions[-1].scope for name, definitions in found.items()}
        names.remove(npipe_windows.__name__)
        first = next((at for at, name in enumerate(names) if scopes.get(name) == "function"), len(names))
        names.insert(first, npipe_windows.__name__)


def _install(platform: bool | list[str]) -> Installation:
    from npipe.win32 import install

    return install(files=True, asyncio=True, ctypes=True, winapi=True, children=True, platform=platform)


@pytest.fixture
def pipe_name() -> str:
    r"""Return the full name, `\\.\pipe\...`, of a pipe that nobody else uses."""
    return _new_name()


def _new_name() -> str:
    return rf"\\.\pipe\pytest-{os.getpid()}-{next(_numbers)}"


@pytest.fixture
def npipe_windows() -> Iterator[Installation]:
    """Open the doors for one test: all that `--npipe` opens. Gives the Installation; on Windows it does nothing."""
    with _install(platform=False) as installation:
        yield installation


class EchoServer:
    """A server that answers each request with the same bytes; what the fixture `echo_server` gives."""

    name: str
    r"""The pipe's full name, `\\.\pipe\...`, for connect."""
    pid: int
    """The process that serves: this one, or that of `process=True`."""
    server: Server | None
    """The npipe.Server; None with `process=True`."""

    def __init__(self, name: str, *, process: bool = False, **options: Any) -> None:
        self.name = name
        self.server = None
        self._process: subprocess.Popen[bytes] | None = None
        if process:
            self._process = _start_echo(name, options)
            self.pid = self._process.pid
        else:
            from npipe.servers import serve

            self.server = serve(name, bytes, **options)
            self.pid = os.getpid()

    def close(self) -> None:
        """End it, before the test does. Again is nothing."""
        if self.server is not None:
            self.server.close()
        if self._process is not None:
            process, self._process = self._process, None
            try:
                _, said = process.communicate(timeout=_DEADLINE)  # which closes its standard input
            except subprocess.TimeoutExpired:
                process.kill()
                process.communicate()
                raise RuntimeError(f"the echo server of {self.name} did not end in {_DEADLINE:.0f} seconds") from None
            if process.returncode:
                raise RuntimeError(f"the echo server of {self.name} has failed: {_last_line(said, process)}")

    def kill(self) -> None:
        """Kill the process that serves, with no farewell. RuntimeError where that is the test's own."""
        if self.server is not None:
            raise RuntimeError("the server is in the test's own process: pytest.mark.echo_server(process=True)")
        if self._process is not None:
            process, self._process = self._process, None
            process.kill()
            process.communicate()


def _start_echo(name: str, options: dict[str, Any]) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "npipe.servers.echo", name, json.dumps(options)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None  # noqa: S101 - it is a pipe
    timer = threading.Timer(_DEADLINE, process.kill)
    timer.start()
    try:
        ready = process.stdout.readline().strip() == b"ready"
    except BaseException:
        process.kill()
        process.communicate()
        raise
    finally:
        timer.cancel()
    if not ready:
        process.kill()
        _, said = process.communicate()
        raise RuntimeError(f"the echo server of {name} has not begun: {_last_line(said, process)}")
    return process


def _last_line(said: bytes, process: subprocess.Popen[bytes]) -> str:
    lines = said.decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else f"status {process.returncode}"


@pytest.fixture
def echo_server(request: pytest.FixtureRequest) -> Iterator[EchoServer]:
    """Serve a pipe of this test's own that sends back what it gets, until the test has ended.

    `@pytest.mark.echo_server(process=True)` serves it in a process of its own; other arguments of the mark are options
    of npipe.serve, such as mode, model or max_instances (with `process=True` those that can be written in JSON).
    """
    mark = request.node.get_closest_marker("echo_server")
    if mark is not None and mark.args:
        raise pytest.UsageError("pytest.mark.echo_server takes arguments by name only")
    server = EchoServer(_new_name(), **(mark.kwargs if mark is not None else {}))
    with contextlib.closing(server):
        yield server


class PipeMessage(NamedTuple):
    """A message that went through a pipe, or what one read or write of a byte pipe has moved."""

    pipe: str
    r"""The pipe's full name, `\\.\pipe\NAME`."""
    side: Literal["client", "server"]
    """Whose end has told of it. Where both ends are the test's, each tells of each message."""
    direction: Literal["in", "out"]
    """Whether that end has read it or written it."""
    data: bytes
    """Its content, up to `snaplen` bytes."""
    size: int
    """How many bytes it has."""


class PipeTrace:
    """What the pipes of a test's process do while the test runs; what the fixture `pipe_trace` gives."""

    def __init__(self, snaplen: int) -> None:
        from npipe.tracing.own import Recorder

        self._events: list[Event] = []
        self._recorder = Recorder(self._events.append, snaplen=snaplen)
        if self._recorder.code:
            raise RuntimeError(f"pipes cannot be recorded: WinError {self._recorder.code}")

    @property
    def events(self) -> list[Event]:
        """All that has happened so far, with how connections begin and end: npipe.tracing.events.Event."""
        self._recorder.sync()
        return list(self._events)

    def messages(
        self, pipe: str | os.PathLike[str] | None = None, *, side: Literal["client", "server"] | None = None
    ) -> list[PipeMessage]:
        """Return the messages that were read and written so far, in their order.

        Args:
            pipe: the pipe's name, in any form; None: of all.
            side: only those of which this end has told; None: of both.

        Raises:
            RuntimeError: some were lost, for they came faster than they were recorded.
            PipeArgumentError: the name is none (123).
        """
        from npipe.names import parse_name
        from npipe.tracing.events import Flags, Kind

        wanted = None if pipe is None else parse_name(pipe).path.casefold()
        found: list[PipeMessage] = []
        for event in self.events:
            if event.kind is Kind.LOST:
                raise RuntimeError(f"{event.size} records of pipes were lost")
            told_by: Literal["client", "server"] = "server" if event.flags & Flags.SERVER else "client"
            if (
                event.kind is Kind.DATA
                and not event.flags & Flags.WITHDRAWN
                and (wanted is None or event.pipe.casefold() == wanted)
                and side in (None, told_by)
            ):
                way: Literal["in", "out"] = "out" if event.flags & Flags.OUT else "in"
                found.append(PipeMessage(event.pipe, told_by, way, event.data, event.size))
        return found

    def clear(self) -> None:
        """Forget what has happened so far."""
        self._recorder.sync()
        self._events.clear()

    def __str__(self) -> str:
        """Return the last of it, a line for each event."""
        from npipe.tracing.events import Flags
        from npipe.tracing.lines import text_line

        events = self.events
        lines = [f"... {len(events) - _SHOWN} before"] if len(events) > _SHOWN else []
        for event in events[-_SHOWN:]:
            line = f"{'server' if event.flags & Flags.SERVER else 'client'} {text_line(event)}"
            lines.append(line if len(line) <= _LONGEST else line[:_LONGEST] + "...")
        return "\n".join(lines)

    def close(self) -> None:
        """Record nothing more. What was recorded stays."""
        self._recorder.close()


_trace: pytest.StashKey[PipeTrace] = pytest.StashKey()


@pytest.fixture
def pipe_trace(request: pytest.FixtureRequest) -> Iterator[PipeTrace]:
    """Record what the pipes of this test's process do, at the ends that it has, from here on until the test has ended.

    When the test fails, its report has the last of it. `@pytest.mark.pipe_trace(snaplen=N)`: N bytes of each message.
    """
    mark = request.node.get_closest_marker("pipe_trace")
    if mark is not None and mark.args:
        raise pytest.UsageError("pytest.mark.pipe_trace takes arguments by name only")
    trace = PipeTrace(**({"snaplen": _SNAPLEN} | (mark.kwargs if mark is not None else {})))
    request.node.stash[_trace] = trace
    with contextlib.closing(trace):
        yield trace


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show what the pipes of a test that has failed have done."""
    report = yield
    trace = item.stash.get(_trace, None)
    if trace is not None and report.failed:
        report.sections.append((f"pipes, as pipe_trace has recorded them ({report.when})", str(trace)))
    if trace is not None and report.when == "teardown":
        del item.stash[_trace]  # the item stays until the session ends
    return report
