"""The demonstration as it is told: the article's two programs, what is special about pipes, and how fast it is."""

from __future__ import annotations

import contextlib
import io
import os
import platform
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import npipe
from npipe._text import printable
from npipe.cli.article import DEFAULT_NAME
from npipe.cli.demonstration.sides import BUFFER, CROWD, REQUESTS
from npipe.cli.demonstration.stage import Stage, StageError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["tell"]

_PAUSE: Final = 0.3  # seconds that the one client needs the instance while the other one waits
_SECONDS: Final = 1.0  # of measuring
_SIZE: Final = 64
_MODELS: Final = {
    "threaded": "a thread for each client, in blocking calls",
    "overlapped": "one thread, overlapped I/O, WaitForMultipleObjects",
    "completion": "one thread, ReadFileEx and WriteFileEx with completion routines",
}


def tell() -> int:
    """Show all of it; the exit status: 0, or 1 if something has failed, which is told in a line."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        with _own_root() as where:
            _introduce(where)
            with Stage(_show) as stage:
                _article(stage)
                _busy(stage)
                _pieces(stage)
                _models(stage)
            _speed()
        _what_next()
    except (StageError, npipe.PipeError) as error:
        _complain(f"{error} (`npipe doctor` looks at what npipe needs)")
        return 1
    except BrokenPipeError:  # who reads it has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:  # standard output is full, no folder for temporary files, no more processes
        _complain(str(error))
        return 1
    return 0


@contextlib.contextmanager
def _own_root() -> Iterator[str]:
    """Keep the demonstration's pipes to itself, where the system lets us; give where they are, in words."""
    if sys.platform == "win32":
        yield "Windows keeps the pipes"
        return
    before = os.environ.get("NPIPE_ROOT")
    with tempfile.TemporaryDirectory(prefix="npipe-demo-") as folder:
        os.environ["NPIPE_ROOT"] = folder  # the sides have it from here
        try:
            yield "the pipes are in a folder of their own, which goes with them"
        finally:
            if before is None:
                del os.environ["NPIPE_ROOT"]
            else:
                os.environ["NPIPE_ROOT"] = before


def _complain(text: str) -> None:
    sys.stderr.write(f"npipe: {printable(text)}\n")


def _name() -> str:
    return f"{DEFAULT_NAME}-{os.getpid()}" if sys.platform == "win32" else DEFAULT_NAME


def _print(text: str = "") -> None:
    print(text, flush=True)  # noqa: T201 - it is what the command is for


def _show(label: str, line: str) -> None:
    _print(f"   {label + ' |':>12} {printable(line)}".rstrip() if label else printable(line))


def _introduce(where: str) -> None:
    system = {"linux": "Linux", "win32": "Windows"}.get(sys.platform, sys.platform)
    _print(f"npipe {npipe.__version__}, Python {platform.python_version()}, {system}.")
    _print(f"Each server and each client below is a process of its own; {where}.")


def _article(stage: Stage) -> None:
    _print()
    _print('1. The programs of Microsoft\'s articles: "Multithreaded Pipe Server" and "Named Pipe Client"')
    _print("   The server: npipe.serve(name, handler), an instance and a thread for each client.")
    _print("   The client: CreateFile, SetNamedPipeHandleState, WriteFile, and ReadFile in pieces of 512 bytes.")
    _print()
    server = stage.start("server", "article-server", _name())
    stage.until(server, "listens")
    stage.end(stage.start("client", "article-client", _name()))
    stage.end(server)


def _busy(stage: Stage) -> None:
    _print()
    _print("2. A busy server: it allows one instance, so the second client waits until the first one has left")
    _print()
    server = stage.start("server", "small-server", _name())
    stage.until(server, "listens")
    first = stage.start("client 1", "holder", _name())
    stage.until(first, "CreateFile")
    second = stage.start("client 2", "waiter", _name())
    stage.until(second, "WaitNamedPipe")
    time.sleep(_PAUSE)
    first.go_on()
    stage.end(first)
    stage.end(second)
    stage.end(server)


def _pieces(stage: Stage) -> None:
    _print()
    _print(
        f"3. A reply longer than the client's buffer of {BUFFER} bytes: messages keep their borders, and lose nothing"
    )
    _print()
    server = stage.start("server", "long-server", _name())
    stage.until(server, "listens")
    stage.end(stage.start("client", "reader", _name()))
    stage.end(server)


def _models(stage: Stage) -> None:
    _print()
    _print(f"4. The three servers of the articles, with {CROWD} clients at the same time, {REQUESTS} requests each")
    for model, how in _MODELS.items():
        _print()
        _print(f'   model="{model}": {how}')
        server = stage.start("server", "model-server", _name(), model)
        stage.until(server, "listens")
        stage.end(stage.start("clients", "crowd", _name()))
        stage.end(server)


def _speed() -> None:
    # Here, for they take a while to import.
    from npipe.cli.measuring.contest import Contest, ContestError, Settings
    from npipe.cli.measuring.results import duration

    _print()
    _print(f"5. How fast it is here: {_SIZE} bytes to another process and back, each in its turn, every byte compared")
    _print()
    kinds = ("npipe", "multiprocessing")
    try:
        with Contest(Settings(seconds=_SECONDS, size=_SIZE, bulk=65536, aio=False, kinds=kinds)) as contest:
            measured = contest.run(lambda _: None)
    except ContestError as error:
        raise StageError(str(error)) from error
    medians = [each.percentile(0.5) for each in measured]
    said = ", ".join(f"{each.name} {duration(median)}" for each, median in zip(measured, medians, strict=True))
    counts = " and ".join(f"{len(each.round_trips):,}" for each in measured)
    for name, why in contest.left_out.items():
        said += f", without {name}: {printable(why)}"
    if len(medians) == len(kinds) and medians[0] and medians[1]:
        times = medians[1] / medians[0]
        said += f": {times:.{0 if times >= 9.5 else 1}f} times as fast"
    _print(f"   {said} (medians of {counts})")


def _what_next() -> None:
    python = _python()
    _print()
    _print("What to try next, in two terminals:")
    _print()
    _print(f"""   {python} -c "import npipe; npipe.serve('shout', bytes.upper).wait()" """.rstrip())
    _print(f"""   {python} -c "import npipe; print(npipe.call('shout', b'hello'))" """.rstrip())
    _print()
    try:
        import click  # noqa: F401
        import rich  # noqa: F401
    except ImportError:
        _print("and the command, which needs two libraries more:")
        _print()
        _print(f"   {python} -m pip install click rich")
    else:
        _print("and the command:")
        _print()
    _print(f"   {python} -m npipe serve                the server of 1. as a program; --model for those of 4.")
    _print(f"   {python} -m npipe client               its client, in another terminal")
    _print(f"   {python} -m npipe ls --tree            who serves, who is connected, who waits")
    _print(f"   {python} -m npipe bench                5. with its distribution, beside a Unix socket")


def _python() -> str:
    """Return how this interpreter is called from here."""
    here = Path(sys.executable)
    with contextlib.suppress(ValueError):
        here = here.relative_to(Path.cwd())
    text = str(here)
    return f'"{text}"' if " " in text else text
