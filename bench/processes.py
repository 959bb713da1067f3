"""Starting, telling, and above all ending the processes of a run: nothing outlives it, and nothing waits for ever."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Self

ROOT = Path(__file__).resolve().parent.parent
_PATIENCE = 20.0  # seconds for a command that should take well under one


class PeerFailedError(Exception):
    """A process of a peer hung, died, or reported an error."""


class Child:
    """A worker process (see worker.py), with a deadline on every command."""

    def __init__(self, folder: Path, errors: IO[bytes]) -> None:
        self._errors = errors
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bench.worker", str(folder)],
            cwd=ROOT,
            env={**os.environ, "NPIPE_ROOT": str(folder / "npipe")},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            start_new_session=True,  # Ctrl-C is for the parent, which then ends its children
        )
        self._selector = selectors.DefaultSelector()
        assert self._process.stdout is not None
        self._selector.register(self._process.stdout, selectors.EVENT_READ)
        self._unread = b""

    def tell(self, do: str, **arguments: Any) -> None:
        """Send a command, to be answered at :meth:`hear`.

        Raises PeerFailedError when the process is dead.
        """
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps({"do": do, **arguments}).encode() + b"\n")
            self._process.stdin.flush()
        except (OSError, ValueError):
            raise PeerFailedError(self._death()) from None

    def hear(self, timeout: float = _PATIENCE) -> Any:
        """Return the result of the command told last; kills the process when it takes over ``timeout`` seconds.

        Raises PeerFailedError.
        """
        assert self._process.stdout is not None
        deadline = time.monotonic() + timeout
        while b"\n" not in self._unread:
            if not self._selector.select(max(0.0, deadline - time.monotonic())):
                self.kill()
                raise PeerFailedError(f"hung: no answer within {timeout:.0f} s")
            data = os.read(self._process.stdout.fileno(), 65536)
            if not data:
                raise PeerFailedError(self._death())
            self._unread += data
        line, _, self._unread = self._unread.partition(b"\n")
        reply: dict[str, Any] = json.loads(line)
        if "error" in reply:
            raise PeerFailedError(reply["error"])
        return reply["result"]

    def ask(self, do: str, *, timeout: float = _PATIENCE, **arguments: Any) -> Any:
        """Send a command and return its result."""
        self.tell(do, **arguments)
        return self.hear(timeout)

    def kill(self) -> None:
        """End the process now; harmless when it has ended."""
        self._process.kill()
        self._process.wait()
        self._selector.close()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):  # an unsent command to a dead process
                    stream.close()

    def _death(self) -> str:
        self.kill()
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        return f"died with status {self._process.returncode}" + (f": {lines[-1]}" if lines else "")


@dataclass
class Ends:
    """A peer at work: a server process and its client processes."""

    address: str
    server: Child
    clients: list[Child]

    @property
    def client(self) -> Child:
        """The first client."""
        return self.clients[0]

    def kill(self) -> None:
        """End all of them."""
        for child in (*self.clients, self.server):
            child.kill()


class Session:
    """Everything that one run starts and leaves in the file system; a context manager that removes all of it."""

    def __init__(self) -> None:
        self._children: list[Child] = []
        self._files: list[IO[bytes]] = []
        self._serial = 0

    def __enter__(self) -> Self:
        # Short, as a Unix socket's path must fit into 107 bytes; with a private npipe root, away from all other pipes.
        self._folder = tempfile.TemporaryDirectory(prefix="bench-", ignore_cleanup_errors=True)
        self.folder = Path(self._folder.name)
        (self.folder / "npipe").mkdir(mode=0o700)
        return self

    def __exit__(self, *_: object) -> None:
        for child in self._children:
            child.kill()
        for file in self._files:
            file.close()
        # What iceoryx2 and MomentumX leave when they are killed.
        for left in Path("/dev/shm").glob(f"{self.folder.name.replace('-', '?')}*"):
            if left.is_dir():
                shutil.rmtree(left, ignore_errors=True)
            else:
                left.unlink(missing_ok=True)
        self._folder.cleanup()

    def child(self) -> Child:
        """Start a worker."""
        errors = tempfile.TemporaryFile(dir=self.folder)  # noqa: SIM115 - closed with the session
        self._files.append(errors)
        child = Child(self.folder, errors)
        self._children.append(child)
        return child

    def start(
        self,
        peer: str,
        mode: str,
        *,
        connections: tuple[int, ...] = (),
        apart: bool = False,
        slots: int = 0,
        expected: int = 0,
    ) -> Ends:
        """Start a server and its clients.

        ``connections`` says how many each client opens at once (empty: one client, which opens none yet); ``apart``
        gives server and first client a core each, in place of letting the scheduler choose; ``slots`` is the size of
        the messages to come, for peers that make room for such, ``expected`` how many
        connections there will be, where they are opened later.

        Raises PeerFailedError, with everything ended.
        """
        self._serial += 1
        address = f"bench-{self._serial}"
        ends = Ends(address, self.child(), [self.child() for _ in connections or (0,)])
        try:
            if apart:
                cores = sorted(os.sched_getaffinity(0))
                ends.server.ask("pin", core=cores[0])
                ends.client.ask("pin", core=cores[-1])
            for child in (ends.server, *ends.clients) if slots else ():
                child.ask("slots", peer=peer, size=slots)
            ends.server.ask("serve", peer=peer, mode=mode, address=address, count=max(1, expected, sum(connections)))
            first = 0
            for client, count in zip(ends.clients, connections, strict=False):
                client.ask(
                    "connect", peer=peer, address=address, first=first, count=count, greet=mode != "objects", timeout=60
                )
                first += count
        except PeerFailedError:
            ends.kill()
            raise
        return ends


def limit_usage(program: Path) -> list[str]:
    """Return the words of what the program says that it can measure."""
    told = subprocess.run([program], capture_output=True, text=True, timeout=_PATIENCE, check=False).stderr
    return told.replace("|", " ").split()


def run_limit(program: Path, what: str, size: int, count: int) -> float:
    """Run the engine without Python; return seconds per round trip (``rtt``) or message (``oneway``).

    Raises PeerFailedError.
    """
    process = subprocess.Popen(
        [program, what, str(size), str(count)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        out, err = process.communicate(timeout=_PATIENCE)
        if process.returncode:
            raise PeerFailedError(f"status {process.returncode}: {err.strip()}")
        return float(out) / 1e9
    except subprocess.TimeoutExpired:
        raise PeerFailedError(f"hung: no answer within {_PATIENCE:.0f} s") from None
    except ValueError:
        raise PeerFailedError(f"printed no number: {out!r}") from None
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # its session: the program and its second process
        process.wait()
