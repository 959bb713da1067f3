"""What fails at a host, in each face: the same code in all, within the time that was given, and nothing is left."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

import npipe
import npipe.aio
import npipe.connection
from npipe.win32 import pywintypes, win32pipe
from tests import helpers as h
from tests.cli.helpers import STATUSES
from tests.samba.clients import PASSWORD
from tests.samba.proxy import Proxy
from tests.samba.test_client import HOST, listening, remote, there

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from npipe.samba import PrivateSmbd

from tests.samba.test_client import _no_connection_is_left

__all__ = ["_no_connection_is_left"]


@pytest.fixture(autouse=True)
def _nothing_is_configured() -> Iterator[None]:
    yield
    npipe.remote.forget(HOST)


# ---- The faces: each returns the code that it fails with


def by_npipe(name: str, who: npipe.Remote) -> int:
    return h.code_of(lambda: npipe.call(name, b"question", remote=who, timeout=20))


def by_aio(name: str, who: npipe.Remote) -> int:
    return h.code_of(lambda: asyncio.run(npipe.aio.call(name, b"question", remote=who, timeout=20)))


def by_pool(name: str, who: npipe.Remote) -> int:
    with npipe.Pool(name, size=1, remote=who, timeout=20) as pool:
        return h.code_of(lambda: pool.call(b"question"))


def by_win32(name: str, who: npipe.Remote) -> int:
    npipe.remote.configure(HOST, who)
    with pytest.raises(pywintypes.error) as raised:
        win32pipe.CallNamedPipe(name, b"question", 100, 20_000)
    code: int = raised.value.winerror
    return code


def by_connection(name: str, who: npipe.Remote) -> int:
    npipe.remote.configure(HOST, who)

    def ask() -> None:
        with npipe.connection.Client(name) as client:
            client.send_bytes(b"question")
            try:
                client.recv_bytes()
            except EOFError as error:
                raise error.__cause__ or error from None

    return h.code_of(ask)


def by_command(name: str, who: npipe.Remote) -> int:
    settings = {"USERNAME": who.username, "PASSWORD": who._reveal(), "PORT": str(who.port), "AUTH": who.auth}
    if who.encrypt is not None:
        settings["ENCRYPT"] = str(int(who.encrypt))
    done = subprocess.run(
        [sys.executable, "-m", "npipe", "client", name],
        env={**os.environ, **{f"NPIPE_REMOTE_{key}": str(value) for key, value in settings.items()}},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=50,
    )
    code = int(done.stdout.rpartition("GLE=")[2].split()[0])
    assert done.returncode == STATUSES[code]
    assert str(who._reveal()) not in done.stdout + done.stderr
    return code


FACES: dict[str, Callable[[str, npipe.Remote], int]] = {
    "npipe": by_npipe,
    "aio": by_aio,
    "pool": by_pool,
    "win32": by_win32,
    "connection": by_connection,
    "command": by_command,
}
faces = pytest.mark.parametrize("face", list(FACES))


# ---- Who


@faces
def test_a_wrong_password(smbd: PrivateSmbd, short: str, face: str) -> None:
    with listening(short):
        assert FACES[face](there(short), remote(smbd.port, password="wrong one")) == 1326


@faces
def test_a_user_who_is_not_allowed(smbd: PrivateSmbd, short: str, face: str) -> None:
    with npipe.listen(short, remote="samba", allow="games"):
        assert FACES[face](there(short), remote(smbd.port, "bob")) == 5


@faces
def test_encryption_that_is_demanded_and_cannot_be_had(
    own_smbd: Callable[..., PrivateSmbd], short: str, face: str
) -> None:
    smbd = own_smbd(extra="server max protocol = SMB2_10")
    with listening(short):
        code = FACES[face](there(short), remote(smbd.port, encrypt=True))
        assert code == (53 if face == "win32" else 50)


@faces
def test_encryption_that_the_pipe_demands_and_the_client_does_not_have(
    smbd: PrivateSmbd, short: str, face: str
) -> None:
    with npipe.listen(short, remote="samba", allow="authenticated", require_encryption=True):
        assert FACES[face](there(short), remote(smbd.port, encrypt=False)) == 5


# ---- Hosts


@faces
def test_a_host_that_is_no_smb_server(short: str, face: str) -> None:
    with socket.create_server((HOST, 0)) as listener:

        def greet() -> None:
            while True:
                try:
                    client, _ = listener.accept()
                except OSError:
                    return
                with client:
                    client.sendall((60).to_bytes(4, "big") + b"HTTP/1.1 400 Bad Request\r\n" + bytes(34))
                    while client.recv(1000):
                        pass

        greeter = h.started(greet)
        code = FACES[face](there(short), remote(listener.getsockname()[1]))
        listener.shutdown(socket.SHUT_RDWR)
        greeter.result(20)
        assert code == 13


@faces
def test_a_host_that_closes_at_once(short: str, face: str) -> None:
    with socket.create_server((HOST, 0)) as listener:

        def close() -> None:
            while True:
                try:
                    listener.accept()[0].close()
                except OSError:
                    return

        closer = h.started(close)
        code = FACES[face](there(short), remote(listener.getsockname()[1]))
        listener.shutdown(socket.SHUT_RDWR)
        closer.result(20)
        assert code == 53


@faces
def test_a_host_where_nobody_listens(short: str, face: str) -> None:
    with socket.create_server((HOST, 0)) as listener:
        port = listener.getsockname()[1]
    assert FACES[face](there(short), remote(port)) == 53


# ---- In the midst of a transaction

SERVER = """
import sys, npipe
with npipe.listen(sys.argv[1], remote="samba", allow="authenticated") as listener:
    print("ready", flush=True)
    with listener.accept(30) as pipe:
        pipe.recv(timeout=30)
        print("asked", flush=True)
        sys.stdin.read()
"""


@faces
@pytest.mark.parametrize("dies", ["server", "smbd", "link"])
def test_what_dies_in_a_transaction_ends_it(
    own_smbd: Callable[..., PrivateSmbd], smbd: PrivateSmbd, short: str, face: str, dies: str
) -> None:
    if dies == "smbd":
        smbd = own_smbd()
    command = [sys.executable, "-c", SERVER, short]
    with (
        Proxy(smbd.port) as proxy,
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server,
    ):
        assert server.stdout is not None
        try:
            assert server.stdout.readline() == "ready\n"
            asking = h.started(FACES[face], there(short), remote(proxy.port))
            assert server.stdout.readline() == "asked\n"
            begun = time.monotonic()
            if dies == "server":
                server.kill()
            elif dies == "smbd":
                assert smbd.pid is not None
                os.killpg(smbd.pid, signal.SIGKILL)
            else:
                proxy.cut()
            code = asking.result(20)
            assert time.monotonic() - begun < 5
        finally:
            server.kill()
    assert code == (109 if dies == "server" or face == "win32" else 64)


@pytest.mark.parametrize("face", ["npipe", "aio", "win32"])
def test_sixty_four_clients_of_a_face_have_their_own_answers(smbd: PrivateSmbd, short: str, face: str) -> None:
    who = remote(smbd.port)
    npipe.remote.configure(HOST, who)
    ask: dict[str, Callable[[bytes], Any]] = {
        "npipe": lambda data: npipe.call(there(short), data, timeout=50),
        "win32": lambda data: win32pipe.CallNamedPipe(there(short), data, 100, 50_000),
    }
    requests = [b"client %d" % number for number in range(64)]
    with npipe.serve(short, bytes.upper, remote="samba", allow="authenticated"):
        if face == "aio":

            async def all_of_them() -> list[bytes]:
                return list(await asyncio.gather(*(npipe.aio.call(there(short), one, timeout=50) for one in requests)))

            answers = asyncio.run(all_of_them())
        else:
            gate = threading.Barrier(64)

            def together(data: bytes) -> bytes:
                gate.wait(50)
                answer: bytes = ask[face](data)
                return answer

            calls = [h.started(together, one) for one in requests]
            answers = [call.result(50) for call in calls]
    assert answers == [one.upper() for one in requests]
    assert PASSWORD not in repr(who)
