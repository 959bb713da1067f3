"""`pytest --npipe`: the doors for programs that use Windows' pipes, for a test session or for single tests.

There is an echo server for tests too, with or without it. A plugin of pytest's, found by its entry point; without
`--npipe`, and where nobody asks for its fixtures, it does nothing. docs/porting.md shows it.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any, Final

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from npipe.servers import Server
    from npipe.win32 import Installation

__all__ = [
    "EchoServer",
    "echo_server",
    "npipe_windows",
    "pipe_name",
    "pytest_addoption",
    "pytest_configure",
    "pytest_itemcollected",
    "pytest_load_initial_conftests",
]

_numbers = itertools.count(1)
_DEADLINE: Final = 30.0  # seconds for a process to begin, or to end


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
