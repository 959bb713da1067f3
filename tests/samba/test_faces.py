"""Pipes of another machine in the other faces: npipe.aio, npipe.win32, the command."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

import npipe
import npipe.aio
from npipe.win32 import pywintypes, win32con, win32event, win32file, win32pipe
from tests import helpers as h
from tests.cli.helpers import STATUSES
from tests.samba.clients import PASSWORD
from tests.samba.test_client import HOST, Both, has_wait, listening, remote, there

if TYPE_CHECKING:
    from collections.abc import Iterator

    from npipe.samba import PrivateSmbd

from tests.samba.test_client import _no_connection_is_left

__all__ = ["_no_connection_is_left"]


@pytest.fixture
def configured(smbd: PrivateSmbd) -> Iterator[None]:
    npipe.remote.configure(HOST, remote(smbd.port))
    yield
    npipe.remote.forget(HOST)


# ---- npipe.aio


def test_a_call_is_awaited(smbd: PrivateSmbd, short: str) -> None:
    async def client() -> list[bytes]:
        first = await npipe.aio.call(there(short), b"one", remote=remote(smbd.port))
        async with await npipe.aio.connect(there(short), remote=remote(smbd.port)) as pipe:
            return [first, *[await pipe.transact(b"%d" % number) for number in range(20)]]

    with npipe.serve(short, bytes.upper, remote="samba", allow="authenticated"):
        assert asyncio.run(client()) == [b"ONE", *[b"%d" % number for number in range(20)]]


def test_a_read_that_is_cancelled_loses_no_message(smbd: PrivateSmbd, short: str) -> None:
    with listening(short) as listener:

        async def client() -> None:
            async with await npipe.aio.connect(there(short), remote=remote(smbd.port)) as pipe:
                with await asyncio.to_thread(listener.accept, 20) as server:
                    for number in range(10):
                        with pytest.raises(TimeoutError):
                            await asyncio.wait_for(pipe.recv(), 0.02)
                        server.send(b"message %d" % number)
                        assert await pipe.recv(timeout=20) == b"message %d" % number

        asyncio.run(client())


def test_a_request_behind_a_cancelled_read_that_the_server_has_not_taken_is_owed_its_answer(
    smbd: PrivateSmbd, short: str
) -> None:
    filler = bytes(65535)

    def answer_all(server: Any, last: bytes) -> list[bytes]:
        """Take what was sent, up to `last`, and answer what is no filler."""
        asked: list[bytes] = []
        while not asked or asked[-1] != last:
            if (message := server.recv(timeout=20)) != filler:
                asked.append(message)
                server.send(b"answer to " + message)
        return asked

    async def client(listener: Any) -> None:
        async with await npipe.aio.connect(there(short), remote=remote(smbd.port)) as pipe:
            with await asyncio.to_thread(listener.accept, 20) as server:
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(pipe.recv(), 0.05)
                with pytest.raises(npipe.PipeTimeoutError, match="cannot be withdrawn"):
                    while True:
                        await pipe.send(filler, timeout=0.3)
                with pytest.raises(npipe.PipeTimeoutError) as raised:
                    await pipe.transact(b"first", timeout=0.3)
                assert raised.value.sent is True
                with pytest.raises(npipe.PipeStateError) as owed:
                    await pipe.transact(b"second", timeout=20)
                assert owed.value.winerror == 996
                assert await asyncio.to_thread(answer_all, server, b"first") == [b"first"]
                assert await pipe.recv(timeout=20) == b"answer to first"
                answering = asyncio.ensure_future(asyncio.to_thread(answer_all, server, b"second"))
                assert await pipe.transact(b"second", timeout=20) == b"answer to second"
                assert await answering == [b"second"]

    with listening(short) as listener:
        asyncio.run(client(listener))


def test_many_tasks_have_many_pipes(smbd: PrivateSmbd, short: str) -> None:
    async def talk(number: int) -> bytes:
        async with await npipe.aio.connect(there(short), remote=remote(smbd.port)) as pipe:
            await pipe.send(b"%d" % number)
            return await pipe.recv(timeout=30)

    async def everybody() -> list[bytes]:
        return list(await asyncio.gather(*[talk(number) for number in range(40)]))

    with npipe.serve(short, lambda request: request + b"!", remote="samba", allow="authenticated"):
        assert asyncio.run(everybody()) == [b"%d!" % number for number in range(40)]


def test_streams_of_asyncio(smbd: PrivateSmbd, short: str) -> None:
    with listening(short, mode="byte") as listener:

        async def client() -> None:
            async with await npipe.aio.connect(there(short), mode="byte", remote=remote(smbd.port)) as pipe:
                with await asyncio.to_thread(listener.accept, 20) as server:
                    await pipe.write(b"a line\n")
                    assert server.read(100, timeout=20) == b"a line\n"
                    server.write(b"an answer")
                    assert await pipe.read(100, timeout=20) == b"an answer"

        asyncio.run(client())


# ---- npipe.win32


def open_handle(name: str, flags: int = 0) -> Any:
    access = win32con.GENERIC_READ | win32con.GENERIC_WRITE
    return win32file.CreateFile(there(name), access, 0, None, win32con.OPEN_EXISTING, flags, None)


@pytest.mark.usefixtures("configured")
def test_createfile_and_what_follows(smbd: PrivateSmbd, short: str) -> None:
    with npipe.serve(short, bytes.upper, remote="samba", allow="authenticated"):
        handle = open_handle(short)
        win32pipe.SetNamedPipeHandleState(handle, win32pipe.PIPE_READMODE_MESSAGE, None, None)
        assert win32file.WriteFile(handle, b"hello")[0] == 0
        assert win32file.ReadFile(handle, 3) == (234, b"HEL")
        assert win32file.ReadFile(handle, 3) == (0, b"LO")
        assert win32pipe.TransactNamedPipe(handle, b"again", 100, None) == (0, b"AGAIN")
        handle.Close()
        assert win32pipe.CallNamedPipe(there(short), b"call", 100, 5000) == b"CALL"


@pytest.mark.usefixtures("configured")
def test_overlapped_calls(smbd: PrivateSmbd, short: str) -> None:
    with listening(short) as listener:
        handle = open_handle(short, win32con.FILE_FLAG_OVERLAPPED)
        win32pipe.SetNamedPipeHandleState(handle, win32pipe.PIPE_READMODE_MESSAGE, None, None)
        with listener.accept(20) as server:
            reading = pywintypes.OVERLAPPED()
            reading.hEvent = win32event.CreateEvent(None, True, False, None)
            buffer = win32file.AllocateReadBuffer(100)
            assert win32file.ReadFile(handle, buffer, reading)[0] == 997
            assert win32event.WaitForSingleObject(reading.hEvent, 50) == win32event.WAIT_TIMEOUT
            server.send(b"in its own time")
            assert win32event.WaitForSingleObject(reading.hEvent, 20_000) == 0
            count = win32file.GetOverlappedResult(handle, reading, True)
            assert bytes(buffer[:count]) == b"in its own time"
            writing = pywintypes.OVERLAPPED()
            writing.hEvent = win32event.CreateEvent(None, True, False, None)
            win32file.WriteFile(handle, b"written", writing)
            assert win32file.GetOverlappedResult(handle, writing, True) == 7
            assert server.recv(timeout=20) == b"written"
            server.send(b"the last")
            server.close()
            assert win32file.ReadFile(handle, buffer, reading)[0] in (0, 997)
            assert win32file.GetOverlappedResult(handle, reading, True) == 8
            with pytest.raises(pywintypes.error) as raised:
                win32file.ReadFile(handle, buffer, reading)
                win32file.GetOverlappedResult(handle, reading, True)
            assert raised.value.winerror == 109
        handle.Close()


@pytest.mark.usefixtures("configured")
def test_a_handle_that_is_closed_is_the_clients_end(smbd: PrivateSmbd, short: str) -> None:
    with listening(short) as listener:
        handle = open_handle(short)
        with listener.accept(20) as server:
            win32file.WriteFile(handle, b"last words")
            handle.Close()
            assert server.recv(timeout=20) == b"last words"
            assert h.code_of(lambda: server.recv(timeout=20)) == 109


@pytest.mark.usefixtures("configured")
def test_errors_of_win32(smbd: PrivateSmbd, short: str) -> None:
    for call, code in (
        (lambda: open_handle(short), 2),
        (lambda: win32pipe.WaitNamedPipe(there(short), 100), 2 if has_wait() else 50),
        (lambda: win32file.CreateFile(r"\\no-such-host.invalid\pipe\x", 0, 0, None, 3, 0, None), 53),
    ):
        with pytest.raises(pywintypes.error) as raised:
            call()
        assert raised.value.winerror == code
    npipe.remote.configure(HOST, remote(smbd.port, password="wrong"))
    with pytest.raises(pywintypes.error) as raised:
        open_handle(short)
    assert raised.value.winerror == 1326


# ---- The command


def environment(port: int) -> dict[str, str]:
    settings = {"USERNAME": "alice", "PASSWORD": PASSWORD, "PORT": str(port), "AUTH": "ntlm"}
    return {**os.environ, **{f"NPIPE_REMOTE_{name}": value for name, value in settings.items()}}


@pytest.mark.parametrize("model", ["threaded", "overlapped", "completion"])
def test_the_articles_client_prints_its_transcript(smbd: PrivateSmbd, short: str, model: Any) -> None:
    answer = "Default answer from server\0".encode("utf-16-le")
    with npipe.serve(short, lambda _: answer, model=model, remote="samba", allow="authenticated"):
        command = [sys.executable, "-m", "npipe", "client", there(short)]
        done = subprocess.run(
            command, env=environment(smbd.port), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=50
        )
        assert done.stderr == ""
        assert done.stdout.splitlines() == [
            'Sending 58 byte message: "Default message from client."',
            "",
            "Message sent to server, receiving reply as follows:",
            '"Default answer from server"',
            "",
            "<End of message, press ENTER to terminate connection and exit>",
        ]
        assert done.returncode == 0


def test_the_command_says_what_is_wrong(smbd: PrivateSmbd, short: str) -> None:
    for variables, code in (({}, 2), ({"NPIPE_REMOTE_PASSWORD": "wrong"}, 1326)):
        done = subprocess.run(
            [sys.executable, "-m", "npipe", "client", there(short)],
            env=environment(smbd.port) | variables,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=50,
        )
        assert done.returncode == STATUSES[code]
        assert f"GLE={code}" in done.stdout
        assert f"[WinError {code}]" in done.stderr
        assert PASSWORD not in done.stdout + done.stderr


def test_views_and_parts(smbd: PrivateSmbd, short: str) -> None:
    with Both(smbd.port, short) as (client, server):
        client.send(b"a ", b"message ", b"of parts")
        with server.recv_view(timeout=20) as view:
            assert bytes(view) == b"a message of parts"
        server.send(b"seen")
        with pytest.raises(ZeroDivisionError):
            with client.recv_view(timeout=20):
                raise ZeroDivisionError
        with client.recv_view(timeout=20) as view:
            assert bytes(view) == b"seen"
        with client.reserve(5) as room:
            room[:] = b"room."
        assert server.recv(timeout=20) == b"room."
        server.send(b"scattered")
        first, second = bytearray(4), bytearray(10)
        assert client.recv_into(first, second, timeout=20) == 9
        assert (bytes(first), bytes(second[:5])) == (b"scat", b"tered")


# ---- npipe.connection


@pytest.mark.usefixtures("configured")
def test_objects_go_to_a_listener_of_another_machine_as_multiprocessing_sends_them(
    smbd: PrivateSmbd, short: str
) -> None:
    from multiprocessing import AuthenticationError
    from multiprocessing.connection import answer_challenge, deliver_challenge

    import npipe.connection
    from npipe.connection._remote import RemoteConnection

    def serve_one(listener: Any) -> list[object]:
        """As multiprocessing's Listener does on Windows."""
        with RemoteConnection(listener.accept(20)) as server:
            deliver_challenge(server, b"key")
            answer_challenge(server, b"key")
            got = [server.recv(), server.recv_bytes()]
            server.send({"answer": got})
            server.send_bytes(b"some bytes")
            return got

    with listening(short) as listener:
        serving = h.started(serve_one, listener)
        client: Any = npipe.connection.Client(there(short), authkey=b"key")
        with client:
            client.send(["an", "object"])
            client.send_bytes(b"bytes")
            assert client.poll(20)
            assert client.recv() == {"answer": [["an", "object"], b"bytes"]}
            with pytest.raises(OSError, match="bad message length"):
                client.recv_bytes(3)
        with pytest.raises(OSError, match="handle is closed"):
            client.send(1)
        assert serving.result(20) == [["an", "object"], b"bytes"]
        refused = h.started(serve_one, listener)
        with pytest.raises(AuthenticationError):
            npipe.connection.Client(there(short), authkey=b"another key")
        with pytest.raises((AuthenticationError, EOFError)):
            refused.result(20)
        ending = h.started(lambda: listener.accept(20).close())
        with npipe.connection.Client(there(short)) as client:
            ending.result(20)
            assert client.poll(20)
            with pytest.raises(EOFError):
                client.recv()
            with pytest.raises(npipe.PipeStateError):
                client.fileno()
    with pytest.raises(FileNotFoundError):
        npipe.connection.Client(there(short))
