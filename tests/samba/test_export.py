"""Pipes of this machine, opened by other people's SMB clients through a real smbd."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from smbprotocol.exceptions import SMBException, SMBResponseException
from smbprotocol.header import NtStatus

import npipe
import npipe.aio
from tests import helpers as h
from tests.export.helpers import exported
from tests.samba.clients import PASSWORD, Client
from tests.samba.conftest import samba_version

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from npipe.samba import PrivateSmbd
    from tests.conftest import Child

    Start = Callable[..., Child]

MISSING = NtStatus.STATUS_OBJECT_NAME_NOT_FOUND
DISCONNECTED = 0xC00000B0
REFUSED = 0xC000020C
REFUSED_EARLY = 0xC000020D


def status_of(call: Callable[[], object]) -> int:
    """The NTSTATUS of a call that fails."""
    with pytest.raises(SMBResponseException) as raised:
        call()
    status: int = raised.value.status
    return status


# ---- Who


@pytest.mark.parametrize("encrypt", [False, True], ids=["signed", "encrypted"])
@pytest.mark.parametrize("user", ["alice", "bob"])
def test_the_server_knows_who_its_client_is(smbd: PrivateSmbd, short: str, user: str, encrypt: bool) -> None:
    with npipe.listen(short, remote="samba", allow="authenticated") as listener:
        with Client(smbd.port, user, encrypt=encrypt) as client:
            client.open(short)
            with listener.accept(20) as pipe:
                peer = pipe.peer
                assert peer.user == peer.local_user == {"alice": "games", "bob": "news"}[user]
                assert (peer.host, peer.origin, peer.kind, peer.encrypted) == ("127.0.0.1", "samba", "user", encrypt)
                assert (peer.pid, peer.uid) == (0, None)
                assert "S-1-5-11" in peer.sids


def test_only_who_is_named_comes_in(smbd: PrivateSmbd, short: str) -> None:
    with npipe.serve(short, bytes.upper, remote="samba", allow="games"):
        with Client(smbd.port, "bob") as bob, Client(smbd.port, "alice") as alice:
            assert status_of(lambda: bob.open(short)) in (REFUSED, REFUSED_EARLY)
            assert alice.call(alice.open(short), b"hello") == b"HELLO"
            assert status_of(lambda: bob.open(short)) in (REFUSED, REFUSED_EARLY)


def test_without_a_word_of_it_nobody_comes_in(smbd: PrivateSmbd, short: str) -> None:
    with npipe.listen(short, security="everyone"), Client(smbd.port) as client:
        assert status_of(lambda: client.open(short)) == MISSING
    with npipe.listen(short, remote="samba"), Client(smbd.port) as client:
        assert status_of(lambda: client.open(short)) in (REFUSED, REFUSED_EARLY)


def test_encryption_can_be_asked_for(smbd: PrivateSmbd, short: str) -> None:
    with npipe.serve(short, bytes.upper, remote="samba", allow="authenticated", require_encryption=True):
        with Client(smbd.port) as client:
            assert status_of(lambda: client.open(short)) in (REFUSED, REFUSED_EARLY)
        with Client(smbd.port, encrypt=True) as client:
            assert client.call(client.open(short), b"hello") == b"HELLO"


def test_a_wrong_password_gets_nowhere(smbd: PrivateSmbd) -> None:
    with pytest.raises(SMBException):
        Client(smbd.port, "alice", password="wrong")
    with pytest.raises(SMBException):
        Client(smbd.port, "nobody-of-this-name", password=PASSWORD)


def test_a_guest_comes_in_only_as_a_guest(own_smbd: Callable[..., PrivateSmbd], short: str, tmp_path: Path) -> None:
    smbd = own_smbd(guests=True)
    words = tmp_path / "words"
    words.write_bytes(b"a guest's words")
    for allow, welcome in (("authenticated", False), (("nobody", "root"), False), ("guests", True)):
        with npipe.listen(short, remote="samba", allow=allow) as listener:
            said = _smbclient(smbd, f"put {words} {short}", user="root", password="whatever")
            assert ("putting file" in said) == welcome, said
            if welcome:
                with listener.accept(20) as pipe:
                    assert pipe.recv(timeout=20) == b"a guest's words"
                    assert (pipe.peer.kind, pipe.peer.user) == ("guest", "nobody")


# ---- What is carried


@pytest.mark.parametrize("model", ["threaded", "overlapped", "completion"])
def test_each_of_the_three_servers_answers(smbd: PrivateSmbd, short: str, model: Any) -> None:
    def answer(request: bytes, connection: npipe.Connection) -> bytes:
        return request.upper() + f" {connection.user}".encode()

    with npipe.serve(short, answer, model=model, remote="samba", allow="authenticated"):
        with Client(smbd.port) as alice, Client(smbd.port, "bob", encrypt=True) as bob:
            pipes = [(alice, alice.open(short)), (bob, bob.open(short)), (alice, alice.open(short.upper()))]
            for _ in range(3):
                for (client, pipe), who in zip(pipes, (b"games", b"news", b"games"), strict=True):
                    assert client.call(pipe, b"hello") == b"HELLO " + who
            assert npipe.call(short, b"here").startswith(b"HERE ")


def test_an_event_loop_s_server_answers(smbd: PrivateSmbd, short: str) -> None:
    def ask() -> bytes:
        with Client(smbd.port) as client:
            return client.call(client.open(short), b"hello")

    async def main() -> None:
        async with await npipe.aio.serve(short, bytes.upper, remote="samba", allow="authenticated"):
            assert await asyncio.to_thread(ask) == b"HELLO"

    asyncio.run(main())


def test_messages_of_all_sizes_keep_their_boundaries(smbd: PrivateSmbd, short: str) -> None:
    sizes = [1, 2, 255, 256, 4095, 16384, 32768, 65534, 65535]
    with npipe.listen(short, remote="samba", allow="authenticated") as listener, Client(smbd.port) as client:
        theirs = client.open(short)
        with listener.accept(20) as pipe:
            for size in sizes:
                theirs.write(bytes([size & 0xFF]) * size)
                assert pipe.recv(timeout=20) == bytes([size & 0xFF]) * size
                pipe.send(bytes([size & 0x7F]) * size)
                assert theirs.read(0, 65536) == bytes([size & 0x7F]) * size
            with h.fails(87):
                pipe.send(bytes(65536))
            with h.fails(87):
                pipe.send(b"")
            pipe.send(b"in two reads")
            assert (theirs.read(0, 5), theirs.read(0, 100)) == (b"in tw", b"o reads")


def test_a_byte_pipe_is_a_stream(smbd: PrivateSmbd, short: str) -> None:
    data = os.urandom(1_000_000)
    with npipe.listen(short, mode="byte", remote="samba", allow="authenticated") as listener:
        with Client(smbd.port) as client:
            theirs = client.open(short)
            with listener.accept(20) as pipe:

                def write() -> None:
                    for begin in range(0, len(data), 60_000):
                        theirs.write(data[begin : begin + 60_000])

                writing = h.started(write)
                got = b""
                while len(got) < len(data):
                    got += pipe.read(1 << 20, timeout=20)
                assert got == data
                writing.result()
                sending = h.started(lambda: pipe.write(data, timeout=30))
                got = b""
                while len(got) < len(data):
                    got += theirs.read(0, 65535)
                assert got == data
                sending.result()


def test_all_that_a_server_wrote_before_it_closed_is_delivered(smbd: PrivateSmbd, short: str) -> None:
    messages = [b"%02d" % number * 200 for number in range(50)]
    with npipe.listen(short, remote="samba", allow="authenticated") as listener, Client(smbd.port) as client:
        theirs = client.open(short)
        with listener.accept(20) as pipe:
            for message in messages:
                pipe.send(message, timeout=20)
        assert [theirs.read(0, 65536) for _ in messages] == messages
        assert status_of(lambda: theirs.read(0, 65536)) == DISCONNECTED


def test_all_that_a_server_wrote_before_its_process_ended_is_delivered(
    smbd: PrivateSmbd, short: str, child: Start
) -> None:
    script = """
    import sys, npipe
    with npipe.listen(sys.argv[1], remote="samba", allow="authenticated") as listener:
        print("listening", flush=True)
        with listener.accept() as pipe:
            pipe.recv()
            for number in range(50):
                pipe.send(b"%02d" % number * 200)
    """
    server = child(script, short)
    assert server.line() == "listening"
    with Client(smbd.port) as client:
        theirs = client.open(short)
        theirs.write(b"tell me")
        assert [theirs.read(0, 65536) for _ in range(50)] == [b"%02d" % number * 200 for number in range(50)]
        assert status_of(lambda: theirs.read(0, 65536)) == DISCONNECTED
    assert server.wait() == 0


def test_two_smbd_stand_before_one_server(own_smbd: Callable[..., PrivateSmbd], short: str) -> None:
    first = own_smbd()
    second = own_smbd()
    (second.folder / "extra.conf").write_text(f"[global]\nexternal_rpc_pipe:socket_dir = {first.samba_dir}\n")
    second.close()
    second.start()
    with npipe.serve(short, bytes.upper, remote="samba", allow="authenticated", samba_dir=first.samba_dir):
        for smbd in (first, second):
            with Client(smbd.port) as client:
                assert client.call(client.open(short), b"hello") == b"HELLO"


def test_smbd_of_two_versions_stand_before_one_server(
    own_smbd: Callable[..., PrivateSmbd],
    systems_samba: Callable[[], contextlib.AbstractContextManager[None]],
    short: str,
) -> None:
    first = own_smbd()
    where = f"external_rpc_pipe:socket_dir = {first.samba_dir}"
    second = own_smbd(extra=where)
    with systems_samba():
        third = own_smbd(extra=where)
    gate = threading.Barrier(12)

    def talk(number: int) -> None:
        smbd = (first, second, third)[number % 3]
        with Client(smbd.port, "alice" if number % 2 else "bob", encrypt=number % 4 < 2) as client:
            pipes = [client.open(short) for _ in range(5)]
            gate.wait(50)
            for turn in range(40):
                for index, pipe in enumerate(pipes):
                    message = b"client %d pipe %d turn %d" % (number, index, turn)
                    assert client.call(pipe, message) == message.upper()

    with npipe.serve(short, bytes.upper, remote="samba", allow="authenticated", samba_dir=first.samba_dir) as server:
        with ThreadPoolExecutor(12) as pool:
            for done in [pool.submit(talk, number) for number in range(12)]:
                done.result(60)
        assert server.stats.answered == 2400


# ---- Faults


def test_a_client_that_dies_in_a_transaction_is_noticed(smbd: PrivateSmbd, short: str, child: Start) -> None:
    script = f"""
    import sys
    sys.path.insert(0, {str(h.CHECKOUT)!r})
    from tests.samba.clients import Client
    client = Client({smbd.port})
    client.call(client.open(sys.argv[1]), b"question")
    """
    with npipe.listen(short, remote="samba", allow="authenticated") as listener:
        client = child(script, short)
        with listener.accept(20) as pipe:
            assert pipe.recv(timeout=20) == b"question"
            client.kill()
            if samba_version() >= (4, 20):  # that tells of it only when there is an answer
                assert h.code_of(lambda: pipe.recv(timeout=1)) == 121
                pipe.send(b"answer", timeout=20)
            with h.fails(109):
                pipe.recv(timeout=20)


def test_a_server_that_is_killed_in_a_transaction_is_noticed(smbd: PrivateSmbd, short: str, child: Start) -> None:
    script = """
    import sys, npipe
    with npipe.listen(sys.argv[1], remote="samba", allow="authenticated") as listener:
        print("listening", flush=True)
        pipe = listener.accept()
        pipe.recv()
        print("asked", flush=True)
        pipe.recv()
    """
    server = child(script, short)
    assert server.line() == "listening"
    with Client(smbd.port) as client:
        theirs = client.open(short)
        request = client.begin(theirs, b"question")
        assert server.line() == "asked"
        server.kill()
        began = time.monotonic()
        assert status_of(lambda: client.end(request)) in (REFUSED, DISCONNECTED)
        assert time.monotonic() - began < 5
        assert status_of(lambda: client.open(short)) == 0xC0000236
        # Its socket is still there, and nobody behind it. The next server takes it over.
        with npipe.serve(short, bytes.upper, remote="samba", allow="authenticated"):
            assert client.call(client.open(short), b"hello") == b"HELLO"


def test_an_smbd_that_is_killed_ends_its_clients_only(own_smbd: Callable[..., PrivateSmbd], short: str) -> None:
    smbd = own_smbd()
    with npipe.listen(short, remote="samba", allow="authenticated") as listener:
        with npipe.connect(short) as local, listener.accept(20) as here:
            client = Client(smbd.port)
            client.open(short)
            with listener.accept(20) as pipe:
                waiting = h.blocked(pipe.recv)
                assert smbd.pid is not None
                os.killpg(smbd.pid, signal.SIGKILL)
                assert waiting.code() == 109
            local.send(b"still")
            assert here.recv(timeout=20) == b"still"
            smbd.close()
            smbd.start()
            with Client(smbd.port) as again:
                theirs = again.open(short)
                with listener.accept(20) as pipe:
                    theirs.write(b"back")
                    assert pipe.recv(timeout=20) == b"back"


def test_64_clients_at_once(smbd: PrivateSmbd, short: str) -> None:
    gate = threading.Barrier(64)

    def talk(number: int) -> list[bytes]:
        with Client(smbd.port, "alice" if number % 2 else "bob") as client:
            pipe = client.open(short)
            gate.wait(50)
            return [client.call(pipe, b"%d/%d" % (number, turn)) for turn in range(10)]

    with npipe.serve(short, bytes.upper, remote="samba", allow="authenticated") as server:
        with ThreadPoolExecutor(64) as pool:
            for number, answers in enumerate(pool.map(talk, range(64))):
                assert answers == [b"%d/%d" % (number, turn) for turn in range(10)]
        assert server.stats.answered == 640
        h.until(lambda: server.clients == 0, 20)


TWENTY_CLIENTS = """
import sys
from concurrent.futures import ThreadPoolExecutor
port, name, first = int(sys.argv[1]), sys.argv[2], int(sys.argv[3])
from tests.samba.clients import Client
clients = [Client(port, ("alice", "bob")[number % 2]) for number in range(first, first + 20)]
pipes = [client.open(name) for client in clients]
print("connected", flush=True)
def talk(index):
    user = (b"games", b"news")[(first + index) % 2]  # whom smbd takes them for
    for turn in range(5):
        message = b"%d/%d" % (first + index, turn) + b"." * (turn * 5000)
        assert clients[index].call(pipes[index], message) == user + b" " + message, (index, turn)
with ThreadPoolExecutor(20) as pool:
    for line in sys.stdin:
        list(pool.map(talk, range(20)))
        print("answered", flush=True)
for client in clients:
    client.close()
"""


@pytest.mark.skipif(
    not (os.environ.get("NPIPE_TEST_SAMBA") or os.environ.get("NPIPE_LONG")),
    reason="the long form alone: half a minute of two processors (NPIPE_LONG=1, or `make test-samba-long`)",
)
@pytest.mark.timeout(600)
def test_500_connections_at_once(smbd: PrivateSmbd, short: str) -> None:
    """Each has a connection, a logon and a process of smbd's of its own."""

    def answer(data: bytes, connection: Any) -> bytes:
        user: str = connection.peer.user
        return user.encode() + b" " + data

    limit, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most < 4096:
        pytest.skip(f"a process may have {most} descriptors here, and the server of 500 has 2,000")
    with npipe.serve(short, answer, remote="samba", allow="authenticated") as server, contextlib.ExitStack() as stack:
        stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (limit, most))
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
        with Client(smbd.port) as client:
            assert client.call(client.open(short), b"first") == b"games first"
        h.until(lambda: server.clients == 0)
        before = h.descriptors()
        workers = []
        for first in range(0, 500, 20):
            command = [sys.executable, "-c", TWENTY_CLIENTS, str(smbd.port), short, str(first)]
            worker = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=h.CHECKOUT)
            workers.append(stack.enter_context(worker))
            stack.callback(worker.kill)
        for worker in workers:
            assert worker.stdout is not None
            assert worker.stdout.readline() == "connected\n"
        h.until(lambda: server.clients == 500, 60)  # smbd has answered the opens before there were instances
        for _ in range(2):
            for worker in workers:
                assert worker.stdin is not None
                worker.stdin.write("go\n")
                worker.stdin.flush()
            for worker in workers:
                assert worker.stdout is not None
                assert worker.stdout.readline() == "answered\n"
        assert server.stats.answered == 1 + 500 * 2 * 5
        for worker in workers:
            worker.communicate(timeout=300)
            assert worker.returncode == 0
        h.until(lambda: server.clients == 0, 60)
        stack.close()  # the pipes to those processes
        h.until(lambda: h.descriptors() <= before, 60)


def test_nothing_is_left_when_all_have_gone(smbd: PrivateSmbd, short: str) -> None:
    def once() -> None:
        with npipe.serve(short, bytes.upper, remote="samba", allow="authenticated") as server:
            with Client(smbd.port) as client:
                for _ in range(5):
                    pipe = client.open(short)
                    assert client.call(pipe, b"hello") == b"HELLO"
                    pipe.close()
            h.until(lambda: server.clients == 0)
        h.until(lambda: not any(thread.name == "npipe-export" for thread in threading.enumerate()))

    once()
    there = exported(smbd.samba_dir)  # those of servers that other tests have killed
    before = h.descriptors()
    for _ in range(3):
        once()
    h.until(lambda: h.descriptors() <= before)
    assert short not in there
    assert exported(smbd.samba_dir) == there


# ---- Other clients


def _smbclient(smbd: PrivateSmbd, commands: str, user: str = "alice", password: str = PASSWORD) -> str:
    if shutil.which("smbclient") is None:
        pytest.skip("`make test-samba` installs smbclient")
    command = ["smbclient", "//127.0.0.1/IPC$", "-p", str(smbd.port), "-c", commands, "-s", "/dev/null"]
    done = subprocess.run(
        command,
        env={**os.environ, "USER": user, "PASSWD": password},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=30,
        check=False,
    )
    return done.stdout


def test_smbclient_writes_a_file_into_a_pipe(smbd: PrivateSmbd, short: str, tmp_path: Path) -> None:
    (tmp_path / "words").write_bytes(b"words of smbclient's")
    with npipe.listen(short, remote="samba", allow="authenticated") as listener:
        said = h.started(_smbclient, smbd, f"put {tmp_path / 'words'} {short}")
        with listener.accept(20) as pipe:
            assert pipe.recv(timeout=20) == b"words of smbclient's"
        said.result(30)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_impacket_talks_to_a_pipe(smbd: PrivateSmbd, short: str) -> None:
    impacket = pytest.importorskip("impacket.smbconnection", reason="`make test-samba` installs impacket")
    with npipe.serve(short, bytes.upper, remote="samba", allow="games"):
        client = impacket.SMBConnection("127.0.0.1", "127.0.0.1", sess_port=smbd.port)
        try:
            client.login("alice", PASSWORD)
            tree = client.connectTree("IPC$")
            pipe = client.openFile(tree, short)
            assert client.transactNamedPipe(tree, pipe, b"hello") == b"HELLO"
            client.writeNamedPipe(tree, pipe, b"again")
            assert client.readNamedPipe(tree, pipe) == b"AGAIN"
        finally:
            client.close()


# ---- npipe.win32


@pytest.mark.skipif(os.geteuid() != 0, reason="only root acts as others")
def test_a_server_acts_as_its_client(smbd: PrivateSmbd, short: str) -> None:
    from npipe.win32 import win32api, win32file, win32pipe, win32security

    handle = win32pipe.CreateNamedPipe(rf"\\.\pipe\{short}", 3, 4 | 2, 255, 65536, 65536, 0, None)
    with handle, npipe.export(short, allow="authenticated"):
        h.until((smbd.samba_dir / "np" / short.lower()).is_socket)
        with Client(smbd.port) as client:
            theirs = client.open(short)
            win32pipe.ConnectNamedPipe(handle, None)
            theirs.write(b"who am I?")
            assert win32file.ReadFile(handle, 100) == (0, b"who am I?")
            assert win32pipe.GetNamedPipeHandleState(handle, False, True)[4] == "games"
            assert win32pipe.GetNamedPipeClientProcessId(handle) == 0
            win32security.ImpersonateNamedPipeClient(handle)
            try:
                assert win32api.GetUserName() == "games"
                assert os.geteuid() == 5
            finally:
                win32security.RevertToSelf()
            assert os.geteuid() == 0
