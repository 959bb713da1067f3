"""An open on behalf of a client of another machine, as the engine takes it: docs/protocol.md, section 3."""

from __future__ import annotations

import gc
import os
import struct
from typing import TYPE_CHECKING, Any

import pytest

import npipe
from npipe import binding
from npipe.options import Peer
from npipe.peers import pack_remote, remote_peer
from tests import helpers as h
from tests import rendezvous
from tests.export.helpers import Smbd

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.conftest import Child

FOR = 4
PEER = Peer(
    pid=0,
    uid=None,
    user="älice",
    host="10.0.0.1",
    domain="CORP",
    local_user="alice",
    sids=("S-1-5-21-1", "S-1-5-11"),
    address="10.0.0.1",
    encrypted=True,
    origin="samba",
)


def packed(**options: Any) -> bytes:
    return pack_remote(PEER, **{"uid": 1000, "gid": 1000, "groups": (1, 2), "most_message": 0, **options})


def opened(name: str, remote: bytes, timeout: float | None = None) -> binding.PolledHandle:
    dial = binding.Dial(*h.place(name), access=3, hold=timeout is not None, timeout=timeout, remote=remote)
    try:
        while not dial.step():
            pass
        return dial.handle()[0]
    finally:
        dial.close()


def test_who_it_is_comes_back_as_it_was_said() -> None:
    assert remote_peer(packed()) == PEER
    for nonsense in (b"", b"\0" * 16, packed()[:-1], struct.pack("<4I", 1, 1, 5, 0) + b"{}", packed() + b"x"):
        with h.fails(13):
            remote_peer(nonsense)


def test_the_server_s_end_tells_for_whom_it_was_opened(name: str) -> None:
    with npipe.listen(name) as listener:
        client = opened(name, packed())
        with listener.accept(10) as pipe:
            assert pipe.peer == PEER
            assert client.remote() is None
        client.close_handle()
        with npipe.connect(name), listener.accept(10) as pipe:
            assert pipe.peer.pid == os.getpid()
            assert pipe.peer.origin == "local"


def test_a_request_that_is_held_is_for_the_same_one(name: str) -> None:
    with npipe.listen(name, max_instances=1) as listener, npipe.connect(name) as first:
        pipe = listener.accept(10)
        waiting = h.started(opened, name, packed(), 20.0)
        h.until(lambda: h.requests_held(name) == 1)
        first.close()
        pipe.close()
        with listener.accept(10) as pipe:
            assert pipe.peer == PEER
        waiting.result().close_handle()


def test_messages_are_limited_for_that_client_alone(name: str) -> None:
    with npipe.listen(name) as listener:
        client = opened(name, packed(most_message=10))
        with listener.accept(10) as pipe:
            for size in (0, 11):
                with h.fails(87):
                    pipe.send(bytes(size))
            pipe.send(bytes(10))
            client.close_handle()
        with npipe.connect(name) as local, listener.accept(10) as pipe:
            pipe.send(bytes(11))
            pipe.send(b"")
            assert (local.recv(timeout=10), local.recv(timeout=10)) == (bytes(11), b"")


NONSENSE = {
    "nothing": b"",
    "a part": bytes(15),
    "a group that is not there": struct.pack("<4I", 1, 1, 1, 0),
    "groups that are not there": struct.pack("<4I", 1, 1, 0xFFFFFFFF, 0) + bytes(100),
    "too many groups": struct.pack("<4I", 1, 1, 257, 0) + bytes(4 * 257),
}


@pytest.mark.parametrize("what", NONSENSE)
def test_nonsense_is_refused_and_takes_no_instance(name: str, what: str) -> None:
    with npipe.listen(name) as listener:
        with rendezvous.dial(name) as socket:
            socket.send(rendezvous.request(flags=FOR) + NONSENSE[what])
            assert rendezvous.code_of(socket.recv(4096)) == 13
        with pytest.raises(npipe.PipeTimeoutError):
            listener.accept(0)
        with npipe.connect(name) as client, listener.accept(10) as pipe:
            client.send(b"still here")
            assert pipe.recv(timeout=10) == b"still here"


def test_only_an_open_has_something_behind_it(name: str) -> None:
    with npipe.listen(name):
        for kind, flags in ((rendezvous.OPEN, 0), (rendezvous.WAIT, FOR), (rendezvous.QUERY, FOR)):
            with rendezvous.dial(name) as socket:
                socket.send(rendezvous.request(kind, flags=flags) + packed())
                assert rendezvous.code_of(socket.recv(4096)) == 1306


def test_more_than_there_may_be_is_refused(name: str) -> None:
    with npipe.listen(name):
        with rendezvous.dial(name) as socket:
            socket.send(rendezvous.request(flags=FOR) + bytes(65537))
            assert rendezvous.code_of(socket.recv(4096)) == 1306
        with pytest.raises(ValueError, match="at most 65536 bytes"):
            opened(name, bytes(65537))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root acts as others")
def test_impersonation_is_of_the_user_that_it_is_here(name: str) -> None:
    from npipe.win32 import win32file, win32pipe, win32security

    with win32pipe.CreateNamedPipe(name, 3, 4 | 2, 1, 4096, 4096, 0, None) as handle:
        client = opened(name, packed(uid=5, gid=60, groups=(60, 12)))
        win32pipe.ConnectNamedPipe(handle, None)
        client.write_file(b"x")
        win32file.ReadFile(handle, 1)
        win32security.ImpersonateNamedPipeClient(handle)
        try:
            assert (os.geteuid(), os.getegid(), sorted(os.getgroups())) == (5, 60, [12, 60])
        finally:
            win32security.RevertToSelf()
        assert os.geteuid() == 0
        assert win32pipe.GetNamedPipeHandleState(handle, False, True)[4] == "älice"
        client.close_handle()


def test_the_computer_s_name_is_told_to_ctypes(name: str, child: Callable[..., Child]) -> None:
    script = """
    import ctypes, sys
    from npipe import win32
    from npipe.win32 import win32pipe
    win32.install(ctypes=True)
    handle = win32pipe.CreateNamedPipe(sys.argv[1], 3, 4 | 2, 1, 4096, 4096, 0, None)
    print("listening", flush=True)
    win32pipe.ConnectNamedPipe(handle, None)
    kernel32 = ctypes.WinDLL("kernel32", use_last_error=True)
    text = ctypes.create_unicode_buffer(64)
    print(kernel32.GetNamedPipeClientComputerNameW(int(handle), text, ctypes.sizeof(text)), text.value, flush=True)
    print(kernel32.GetNamedPipeClientComputerNameW(int(handle), text, 8), ctypes.get_last_error(), flush=True)
    """
    server = child(script, name)
    assert server.line() == "listening"
    client = opened(name, packed())
    assert (server.line(), server.line()) == ("1 10.0.0.1", "0 122")
    client.close_handle()


def test_a_listener_that_nobody_has_any_more_exports_nothing(name: str, samba_dir: Path) -> None:
    listener = npipe.listen(name, remote="samba", allow="alice")
    path = samba_dir / "np" / name.removeprefix("\\\\.\\pipe\\")
    with Smbd(samba_dir, path.name) as client:
        assert client.let_in
    del listener
    gc.collect()
    assert not path.exists()
