"""Fixtures that every test uses: a root folder of its own, unique names, processes that end with the test."""

from __future__ import annotations

import collections
import contextlib
import gc
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
from _pytest._io import TerminalWriter

import npipe
from tests import machine
from tests.helpers import CHECKOUT, shared_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

if sys.dont_write_bytecode and sys.platform != "win32" and (CHECKOUT / "build").is_dir():
    # Whoever wants no bytecode beside sources has it in build/: pytest needs most of a session's start to write asserts
    # anew, in every worker. Processes that tests start have what the environment says.
    sys.dont_write_bytecode = False
    sys.pycache_prefix = str(CHECKOUT / "build" / "pycache")

_numbers = itertools.count()
_run = itertools.count(1)

_MANY = 100  # tests

_SLOW = 180  # seconds


if sys.platform == "win32":
    from tests.windows import differences, wine

    if wine.is_wine():
        wine.keep_wakes()

    collect_ignore = list(differences.LINUX)

    def _mark_for_windows(config: pytest.Config, items: list[pytest.Item]) -> None:
        by_file = [item for item in items if not any("::" in argument for argument in config.args)]
        if unknown := sorted(differences.stale(by_file)):
            raise pytest.UsageError(f"tests/windows/differences.py names what is not there: {', '.join(unknown)}")
        differences.mark(items)
        if share := os.environ.get("NPIPE_SHARE"):
            number, count = map(int, share.split("/"))
            here = _shares(items, count)[number - 1]
            config.hook.pytest_deselected(items=[item for item in items if item.path not in here])
            items[:] = [item for item in items if item.path in here]

    def _shares(items: list[pytest.Item], count: int) -> list[set[Path]]:
        """The files in `count` parts of about as many tests: scripts/windows/test.sh runs them at the same time."""
        files = collections.Counter(item.path for item in items)
        shares: list[set[Path]] = [set() for _ in range(count)]
        sizes = [0] * count
        for path, tests in sorted(files.items(), key=lambda one: (-one[1], one[0])):
            least = sizes.index(min(sizes))
            shares[least].add(path)
            sizes[least] += tests
        return shares

    def pytest_report_header() -> list[str]:
        """Say what is left out, and why."""
        return [f"not on Windows: {path} ({reason})" for path, reason in differences.LINUX.items()]


@pytest.hookimpl(tryfirst=True)  # before -k takes any of them away
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Give slow tests a longer time-out; some are expected to fail on Windows, each for a reason."""
    for item in items:
        if item.get_closest_marker("slow") and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(_SLOW))
    if sys.platform == "win32":
        _mark_for_windows(config, items)


def pytest_collection_finish() -> None:
    """Keep the objects of 9,000 collected tests out of each garbage collection, which had nine tenths of the time."""
    _keep()


def _keep() -> None:
    gc.collect()
    gc.freeze()


@pytest.hookimpl(tryfirst=True)  # before plugins import what looks for referrers
def pytest_sessionfinish() -> None:
    """Let them be collected."""
    gc.unfreeze()


@pytest.hookimpl(tryfirst=True)  # before pytest makes the folder
def pytest_configure(config: pytest.Config) -> None:
    """Make a worker of pytest-xdist like a session of its own, in what is seen of it."""
    if not hasattr(config, "workerinput"):
        return
    # Paths of sockets have to be short: "7" for "popen-gw7".
    base = Path(config.option.basetemp)
    config.option.basetemp = str(base.with_name(base.name.removeprefix("popen-gw")))
    # Where a test stood that its time-out has ended, which pytest-timeout prints: the standard output is lost. All of
    # it in one write, between other workers' lines. (xdist itself says which test that was.)
    writer = TerminalWriter(os.fdopen(os.dup(2), "w", buffering=1 << 20, encoding="utf-8", errors="replace"))
    setattr(config, "get_terminal_writer", lambda: writer)  # noqa: B010 - no method, for a type checker


@pytest.hookimpl(wrapper=True, tryfirst=True)  # around the time-out
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Run a test that is marked `alone` when no other one of this session's workers runs."""
    if next(_run) % _MANY == 0:  # as those of the tests that have run, which pytest holds
        _keep()
    if not hasattr(item.config, "workerinput"):
        return (yield)
    with machine.share(alone=item.get_closest_marker("alone") is not None):
        return (yield)


@pytest.fixture(scope="session", autouse=True)
def first_pipe(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Let this process have had a pipe: what it keeps open from the first on is no test's, which counts descriptors."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NPIPE_ROOT", str(tmp_path_factory.mktemp("first") / "root"))
        name = rf"\\.\pipe\first-{os.getpid()}"
        with npipe.listen(name) as listener, npipe.connect(name) as client, listener.accept(10) as server:
            client.send(b"first")
            assert server.recv() == b"first"


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
