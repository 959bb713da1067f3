"""Fixtures that every test uses: a root folder of its own, unique names, processes that end with the test."""

from __future__ import annotations

import contextlib
import itertools
import os
import subprocess
import sys
import tempfile
import textwrap
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

import npipe
from tests.helpers import shared_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_numbers = itertools.count()


if sys.platform == "win32":
    from tests.windows import differences, wine

    if wine.is_wine():
        wine.keep_wakes()

    collect_ignore = list(differences.LINUX)

    @pytest.hookimpl(tryfirst=True)  # before -k takes any of them away
    def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
        """Some tests are expected to fail on Windows, each for a reason."""
        by_file = [item for item in items if not any("::" in argument for argument in config.args)]
        if unknown := sorted(differences.stale(by_file)):
            raise pytest.UsageError(f"tests/windows/differences.py names what is not there: {', '.join(unknown)}")
        differences.mark(items)

    def pytest_report_header() -> list[str]:
        """Say what is left out, and why."""
        return [f"not on Windows: {path} ({reason})" for path, reason in differences.LINUX.items()]


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The root folder of this test's pipes; not there until something makes it."""
    folder = tmp_path / "npipe-root"
    monkeypatch.setenv("NPIPE_ROOT", str(folder))
    return folder


@pytest.fixture
def shared_root(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A root as an administrator makes it for pipes of all users. (Each start of pytest closes its own folder.)"""
    with shared_folder() as folder:
        monkeypatch.setenv("NPIPE_ROOT", str(folder))
        yield folder


@pytest.fixture
def samba_dir(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder where smbd would look for pipes; its path leaves room for the sockets' names."""
    with tempfile.TemporaryDirectory(prefix="npipe-smb-") as folder:
        monkeypatch.setenv("NPIPE_SAMBA_DIR", folder)
        yield Path(folder)


@pytest.fixture
def name() -> str:
    """A pipe name that nobody else uses."""
    return rf"\\.\pipe\test-{os.getpid()}-{next(_numbers)}"


class Ends(NamedTuple):
    """Both ends of a pipe. Any: the two classes' methods are used without asking which it is."""

    listener: Any
    server: Any
    client: Any


@pytest.fixture
def ends(name: str) -> Iterator[Callable[..., Ends]]:
    """Makes connected pipes that end with the test: ends(mode, client_mode, access, **options of listen) -> Ends."""
    made: list[Ends] = []

    def make(mode: str = "message", client_mode: str | None = None, access: str = "duplex", **options: Any) -> Ends:
        kind: Any = mode
        listener = npipe.listen(f"{name}-{len(made)}", mode=kind, access=access, **options)  # type: ignore[call-overload]
        client = npipe.connect(listener.name, mode=client_mode or mode, access=access)  # type: ignore[call-overload]
        made.append(Ends(listener, listener.accept(5), client))
        return made[-1]

    yield make
    for listener, server, client in made:
        server.abort()
        client.abort()
        listener.close()


class Child:
    """A Python process that runs a script and talks by lines."""

    def __init__(self, script: str, *arguments: str, env: dict[str, str] | None = None) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-X", "faulthandler", "-c", textwrap.dedent(script), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
            env=None if env is None else {**os.environ, **env},
        )

    @property
    def pid(self) -> int:
        return self.process.pid

    def say(self, line: str) -> None:
        """Write a line to its standard input."""
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def line(self, deadline: float = 20.0) -> str:
        """The next line of its standard output, without the newline; fails when none comes in time."""
        found: list[str] = []
        assert self.process.stdout is not None
        reader = threading.Thread(target=lambda: found.append(self.process.stdout.readline()), daemon=True)  # type: ignore[union-attr]
        reader.start()
        reader.join(deadline)
        if not found:
            self.process.kill()
            raise AssertionError(f"no line from the child within {deadline} s")
        return found[0].rstrip("\n")

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        self.process.kill()
        self.process.wait(20)

    def wait(self, deadline: float = 20.0) -> int:
        """Its exit status; fails when it does not end in time."""
        return self.process.wait(deadline)

    def end(self) -> None:
        """Whatever it does: end it, and free what it holds here."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(20)
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                with contextlib.suppress(BrokenPipeError):  # it died with lines unread
                    stream.close()


@pytest.fixture
def child() -> Iterator[Callable[..., Child]]:
    """Starts Python processes that end with the test: child(script, *arguments) -> Child."""
    children: list[Child] = []

    def start(script: str, *arguments: str, env: dict[str, str] | None = None) -> Child:
        made = Child(script, *arguments, env=env)
        children.append(made)
        return made

    yield start
    for made in children:
        made.end()


@pytest.fixture(autouse=True)
def nothing_leaks() -> Iterator[None]:
    """No thread of the test's own survives it."""
    before = set(threading.enumerate())
    yield
    for thread in set(threading.enumerate()) - before:
        if not thread.daemon:
            thread.join(10)
            assert not thread.is_alive(), f"{thread} is still running"
