"""Standard input and output, and commands, as ends of a relay."""

from __future__ import annotations

import asyncio
import contextlib
import os
import queue
import signal
import sys
import threading
from typing import TYPE_CHECKING, Final

from npipe._streams import read_some, write_file
from npipe.relay.base import PIECE, Channel, PeerLostError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["CommandChannel", "StandardChannel", "start_command"]

_STDIN: Final = 0
_STDOUT: Final = 1


class _Worker:
    """A thread that makes one blocking call after the other. It ends with the process, whatever it waits for."""

    def __init__(self, name: str) -> None:
        self._loop = asyncio.get_running_loop()
        self._calls: queue.SimpleQueue[tuple[asyncio.Future[bytes], Callable[[], bytes]]] = queue.SimpleQueue()
        threading.Thread(target=self._run, name=name, daemon=True).start()

    def start(self, call: Callable[[], bytes]) -> asyncio.Future[bytes]:
        done: asyncio.Future[bytes] = self._loop.create_future()
        self._calls.put((done, call))
        return done

    def _run(self) -> None:
        while True:
            done, call = self._calls.get()
            try:
                result, failed = call(), None
            except OSError as error:
                result, failed = b"", error
            with contextlib.suppress(RuntimeError):  # the loop has ended
                self._loop.call_soon_threadsafe(_settle, done, result, failed)


def _settle(done: asyncio.Future[bytes], result: bytes, failed: OSError | None) -> None:
    if not done.done():
        if failed is None:
            done.set_result(result)
        else:
            done.set_exception(failed)


class StandardChannel(Channel):
    """Standard input and output of this process, which may be files, terminals or anything else."""

    def __init__(self) -> None:
        """Read nothing yet."""
        self.label = "standard input and output"
        self._reader = _Worker("npipe-stdin")
        self._writer = _Worker("npipe-stdout")
        self._reading: asyncio.Future[bytes] | None = None

    async def read(self) -> bytes | None:
        """See Channel.read."""
        if self._reading is None:
            self._reading = self._reader.start(lambda: read_some(_STDIN, PIECE))
        try:
            data = await asyncio.shield(self._reading)  # cancelled, the read goes on, and is the next one's
        except OSError as error:
            raise PeerLostError(f"standard input: {error.strerror}") from error
        self._reading = None
        if not data:
            self.read_ended = True
            return None
        return data

    async def write(self, data: bytes) -> None:
        """See Channel.write."""

        def write_all() -> bytes:
            write_file(_STDOUT, data)
            return b""

        try:
            await self._writer.start(write_all)
        except OSError as error:
            raise PeerLostError(f"standard output: {error.strerror}") from error

    async def finish(self) -> bool:
        """See Channel.finish: standard output is closed, by putting the null device in its place."""

        def replace() -> bytes:
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, _STDOUT)
            os.close(null)
            return b""

        await self._writer.start(replace)
        return True

    async def close(self, linger: float) -> int:
        """See Channel.close. Whoever writes to this process's input may go on."""
        del linger
        return await self.shut()

    async def shut(self) -> int:
        """See Channel.shut."""
        reading, self._reading = self._reading, None
        if reading is not None and reading.done() and not reading.cancelled() and reading.exception() is None:
            return len(reading.result())
        return 0


class CommandChannel(Channel):
    """A command of the shell's: what is written is its input, and its output is read."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.label: str = f"process {process.pid}"
        assert process.stdin is not None  # noqa: S101 - asked for
        assert process.stdout is not None  # noqa: S101
        self._in, self._out = process.stdin, process.stdout
        self._in.transport.set_write_buffer_limits(high=0)  # drain: until all of it is out
        self._shut = False

    async def read(self) -> bytes | None:
        """See Channel.read."""
        try:
            data = await self._out.read(PIECE)
        except OSError as error:
            raise PeerLostError(error.strerror or str(error)) from error
        if not data:
            self.read_ended = True
            return None
        return data

    async def write(self, data: bytes) -> None:
        """See Channel.write."""
        try:
            if self._in.transport.is_closing():
                raise BrokenPipeError(0, "it has closed its input")
            self._in.write(data)
            await self._in.drain()
        except OSError as error:
            raise PeerLostError(error.strerror or "it has closed its input") from error

    async def finish(self) -> bool:
        """See Channel.finish."""
        self._in.close()
        return True

    async def gone(self) -> None:
        """See Channel.gone: it has ended, also if something that it has started has its output."""
        await self._process.wait()

    async def close(self, linger: float) -> int:
        """See Channel.close. A command that does not end is ended."""
        try:
            async with asyncio.timeout(linger):
                self._in.close()
                await self.drain()
                await self._process.wait()
        except TimeoutError:
            pass
        return self.drained + await self.shut()

    async def shut(self) -> int:
        """See Channel.shut."""
        if self._shut:
            return 0
        self._shut = True
        if self._process.returncode is None:
            _kill(self._process)
            self.parting: str = "it was ended"
            await self._process.wait()
        elif self._process.returncode:
            self.parting = _how_it_ended(self._process.returncode)
        self._in.close()
        # What was read ahead. What the pipe still has is read too: nobody writes to it any more, or it is too late.
        self._out.feed_eof()
        transport = self._out._transport  # type: ignore[attr-defined]  # noqa: SLF001 - asyncio's own, to stop it
        transport.close()
        return len(await self._out.read())

    @property
    def status(self) -> int | None:
        """How the command has ended, as asyncio tells it; None: it has not."""
        return self._process.returncode


def _how_it_ended(status: int) -> str:
    return f"ended by signal {-status}" if status < 0 else f"ended with status {status}"


async def start_command(command: str) -> CommandChannel:
    """Start a command in the system's shell; OSError if that cannot be."""
    if sys.platform == "win32":
        import subprocess

        shell = f'"{os.environ.get("COMSPEC", "cmd.exe")}" /d /s /c "{command}"'
        flags = subprocess.CREATE_NEW_PROCESS_GROUP
        process = await asyncio.create_subprocess_shell(
            shell, stdin=subprocess.PIPE, stdout=subprocess.PIPE, creationflags=flags
        )
    else:
        # Out of the terminal's group: Ctrl-C is for the relay, which ends it.
        process = await asyncio.create_subprocess_exec(
            "/bin/sh",
            "-c",
            command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            process_group=0,
        )
    return CommandChannel(process)


if sys.platform == "win32":

    def _kill(process: asyncio.subprocess.Process) -> None:
        with contextlib.suppress(ProcessLookupError):
            process.kill()

else:

    def _kill(process: asyncio.subprocess.Process) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
