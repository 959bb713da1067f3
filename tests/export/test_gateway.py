"""A pipe of this machine as smbd sees it: who comes in, what is carried, how it ends."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import struct
import textwrap
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import npipe
import npipe.aio
from npipe.transports.export import gateway, relay
from tests import helpers as h
from tests.export.helpers import (
    ALICE,
    ANONYMOUS,
    BOB,
    CAPTURED,
    GUEST,
    PROBE,
    SIGNED,
    Captured,
    Request,
    Smbd,
    exported,
    framed,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.conftest import Child

    Start = Callable[..., Child]


def short(name: str) -> str:
    return name.removeprefix("\\\\.\\pipe\\")


def listening(name: str, **options: Any) -> npipe.Listener[npipe.MessagePipe]:
    return npipe.listen(name, remote="samba", **{"allow": "authenticated", **options})


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    """The gateway's thread ends with its last export and client, and takes its descriptors with it."""
    with npipe.listen("warm-up") as listener, npipe.connect("warm-up"), listener.accept(10):
        pass  # the engine's own thread and descriptors
    before = h.descriptors()
    yield
    h.until(lambda: not any(thread.name == "npipe-export" for thread in threading.enumerate()))
    h.until(lambda: h.descriptors() <= before)


# ---- Who


def test_the_server_knows_who_its_client_is(name: str, samba_dir: Path) -> None:
    with listening(name) as listener, Smbd(samba_dir, short(name)) as client:
        assert client.let_in
        with listener.accept(10) as pipe:
            peer = pipe.peer
            assert (peer.user, peer.domain, peer.local_user) == ("alice", "FACTS8", "alice")
            assert (peer.host, peer.address, peer.encrypted) == ("127.0.0.1", "127.0.0.1", True)
            assert (peer.origin, peer.kind, peer.pid, peer.uid) == ("samba", "user", 0, None)
            assert peer.sids[0] == "S-1-5-21-2688919653-1156987340-3743858339-1000"
            assert "S-1-5-11" in peer.sids


def test_one_accept_loop_serves_clients_of_this_machine_and_of_others(name: str, samba_dir: Path) -> None:
    with listening(name) as listener:
        seen = []
        for number in range(6):
            with npipe.connect(name) if number % 2 else Smbd(samba_dir, short(name), SIGNED) as client:
                client.send(b"%d" % number)
                with listener.accept(10) as pipe:
                    assert pipe.recv(timeout=10) == b"%d" % number
                    seen.append((pipe.peer.origin, pipe.peer.encrypted))
                    pipe.send(b"yes")
                    assert (client.message() if isinstance(client, Smbd) else client.recv(timeout=10)) == b"yes"
        assert seen == [("samba", False), ("local", False)] * 3


@pytest.mark.parametrize("level", [5, 7, 8])
def test_each_level_is_answered_with_its_own(name: str, samba_dir: Path, level: int) -> None:
    with listening(name) as listener, Smbd(samba_dir, short(name), Request(level=level).packed()) as client:
        assert client.reply[8:16] == level.to_bytes(4, "little") * 2
        client.send(b"hello")
        with listener.accept(10) as pipe:
            assert pipe.recv(timeout=10) == b"hello"


@pytest.mark.parametrize("captured", CAPTURED, ids=lambda captured: captured.name)
def test_a_captured_client_is_let_in_if_it_is_a_user(name: str, samba_dir: Path, captured: Captured) -> None:
    known = "guest" not in captured.name and "anonymous" not in captured.name
    with listening(name), Smbd(samba_dir, short(name), captured.packet) as client:
        assert client.let_in == known


ALLOWED = {
    "nobody is named": ((), ()),
    "the user": ("alice", (ALICE, SIGNED)),
    "two users": (("alice", "news"), (ALICE, SIGNED, BOB)),
    "another user": ("bob", ()),  # Samba takes bob for news: what bob says of itself is nothing
    "the account of a domain": (r"facts8\NEWS", (BOB,)),
    "the account of another domain": (r"elsewhere\news", ()),
    "a SID": ("S-1-22-2-1000", (ALICE, SIGNED)),
    "the SID of everyone": ("S-1-1-0", (ALICE, SIGNED, BOB)),
    "a group": ("group:1000", (ALICE, SIGNED)),
    "users": ("authenticated", (ALICE, SIGNED, BOB)),
    "guests": ("guests", (GUEST,)),
    "guests by their SID": ("S-1-5-32-546", (GUEST,)),
    "anonymous": ("anonymous", (ANONYMOUS,)),
    "anonymous by its SID": ("S-1-5-7", (ANONYMOUS,)),
    "the user that guests are": (("nobody", "root"), ()),
    "the group that guests are in": ("group:65534", ()),
    "all words": (("authenticated", "guests", "anonymous"), (ALICE, SIGNED, BOB, GUEST, ANONYMOUS)),
}


@pytest.mark.parametrize("what", ALLOWED)
def test_nobody_comes_in_who_is_not_named(name: str, samba_dir: Path, what: str) -> None:
    allow, welcome = ALLOWED[what]
    with npipe.listen(name, remote="samba", allow=allow, security="everyone"):
        for request in (ALICE, SIGNED, BOB, GUEST, ANONYMOUS):
            with Smbd(samba_dir, short(name), request) as client:
                assert client.let_in == (request in welcome)


def test_without_a_word_of_it_no_network_is_let_in(name: str, samba_dir: Path) -> None:
    with npipe.listen(name, security="everyone"):
        assert not (samba_dir / "np").exists()
    with npipe.listen(name, remote="samba"), Smbd(samba_dir, short(name)) as client:
        assert client.reply == b""


def test_encryption_can_be_asked_for(name: str, samba_dir: Path) -> None:
    with listening(name, require_encryption=True):
        with Smbd(samba_dir, short(name), SIGNED) as client:
            assert not client.let_in
        with Smbd(samba_dir, short(name), ALICE) as client:
            assert client.let_in


def test_a_claimed_name_is_worth_nothing(name: str, samba_dir: Path) -> None:
    request = Request(account="mallory", unix_user="mallory", claimed="alice", uid=4000)
    with listening(name, allow=("alice", r"HERE\alice")), Smbd(samba_dir, short(name), request.packed()) as client:
        assert not client.let_in


@pytest.mark.parametrize("allow", ["everyone", ["alice", ""], "group:no-such-group", "DOMAIN\\", "\\alice", "a\0b"])
def test_what_names_nobody_is_an_error(name: str, samba_dir: Path, allow: Any) -> None:
    with h.fails(87):
        listening(name, allow=allow)
    assert not (samba_dir / "np").exists()
    assert npipe.list_pipes() == []


def test_options_of_the_network_want_the_network(name: str) -> None:
    for option in ({"allow": "alice"}, {"require_encryption": True}, {"samba_dir": "/tmp"}, {"remote": "ftp"}):
        with h.fails(87):
            npipe.listen(name, **option)


def test_an_attempt_is_logged_without_what_is_nobody_s_business(
    name: str, samba_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    request = Request(account="mallory", unix_user="mallory", claimed="SECRET-CLAIM")
    with listening(name, allow="alice"), Smbd(samba_dir, short(name), request.packed()) as client:
        assert not client.let_in
    assert "mallory" in caplog.text
    assert "SECRET-CLAIM" not in caplog.text
    assert request.key.hex() not in caplog.text
    assert repr(request.key)[2:-1] not in caplog.text


SERVER = """
import sys, npipe
with npipe.listen(sys.argv[1], remote="samba", allow="authenticated") as listener:
    print("listening", flush=True)
    with listener.accept() as pipe:
        print(pipe.recv().decode(), flush=True)
        input()
"""


def test_the_session_s_key_is_nowhere_in_the_server_s_memory(name: str, samba_dir: Path, child: Start) -> None:
    server = child(SERVER, name)
    assert server.line() == "listening"
    request = Request(key=os.urandom(16), account="account-that-is-told", unix_user="alice")
    with Smbd(samba_dir, short(name), request.packed()) as client:
        client.send(b"hello")
        assert server.line() == "hello"
        found = _in_memory(server.pid, request.key), _in_memory(server.pid, b"account-that-is-told")
        assert found == (False, True)
        server.say("")
        assert server.wait() == 0


def _in_memory(pid: int, what: bytes) -> bool:
    process = Path(f"/proc/{pid}")
    with (process / "maps").open(encoding="ascii") as maps, (process / "mem").open("rb", buffering=0) as memory:
        for line in maps:
            places, rights = line.split()[:2]
            begin, end = (int(place, 16) for place in places.split("-"))
            if rights.startswith("rw"):
                with contextlib.suppress(OSError, OverflowError):
                    memory.seek(begin)
                    if what in memory.read(end - begin):
                        return True
    return False


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")
def test_somebody_who_is_not_smbd_is_not_believed(name: str, samba_dir: Path, child: Start) -> None:
    script = """
    import os, socket, sys
    os.setgroups([]); os.setgid(65534); os.setuid(65534)
    s = socket.socket(socket.AF_UNIX); s.settimeout(20); s.connect(sys.argv[1])
    try:
        s.sendall(bytes.fromhex(sys.argv[2]))
        print(len(s.recv(100)), flush=True)
    except OSError:  # it was hung up on before it had spoken
        print(0, flush=True)
    """
    with listening(name) as listener:
        path = samba_dir / "np" / short(name)
        for place, mode in ((samba_dir, 0o755), (samba_dir / "np", 0o755), (path, 0o666)):
            place.chmod(mode)
        liar = child(script, str(path), ALICE.hex())
        assert liar.line() == "0"
        with pytest.raises(npipe.PipeTimeoutError):
            listener.accept(0)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")
def test_only_the_owner_opens_a_pipe_for_others(name: str, shared_root: Path, child: Start) -> None:
    script = """
    import os, sys
    from npipe import binding, errors
    from npipe.options import Peer
    from npipe.peers import pack_remote
    from tests.helpers import place
    os.setgroups([]); os.setgid(65534); os.setuid(65534)
    remote = pack_remote(Peer(0, None, "root", "x", kind="user"), uid=0, gid=0, groups=(), most_message=0)
    dial = binding.Dial(*place(sys.argv[1]), access=3, verify_owner=False, timeout=10, hold=True, remote=remote)
    try:
        while not dial.step():
            pass
        print("in", flush=True)
    except errors.PipeError as error:
        print(error.winerror, flush=True)
    """
    with npipe.listen(name, security="everyone") as listener:
        assert (
            child(f"import sys; sys.path.insert(0, {str(h.CHECKOUT)!r})\n{textwrap.dedent(script)}", name).line() == "5"
        )
        with pytest.raises(npipe.PipeTimeoutError):
            listener.accept(0)


# ---- What is carried


def test_messages_keep_their_boundaries_both_ways(name: str, samba_dir: Path) -> None:
    sizes = [1, 2, 255, 256, 4096, 16383, 32768, 65534, 65535, 7]
    messages = [bytes([number]) * size for number, size in enumerate(sizes)]
    with listening(name) as listener, Smbd(samba_dir, short(name)) as client, listener.accept(10) as pipe:
        sending = h.started(client.send, *messages)
        assert [pipe.recv(timeout=10) for _ in messages] == messages
        sending.result()
        sending = h.started(_send_all, pipe, messages)
        assert [client.message() for _ in messages] == messages
        sending.result()


def test_a_message_in_many_pieces_is_one(name: str, samba_dir: Path) -> None:
    data = framed(b"one", b"twotwo" * 100, b"3")
    with listening(name) as listener, Smbd(samba_dir, short(name)) as client, listener.accept(10) as pipe:
        for place in range(0, len(data), 5):
            client.socket.sendall(data[place : place + 5])
        assert [pipe.recv(timeout=10) for _ in range(3)] == [b"one", b"twotwo" * 100, b"3"]


def test_a_message_that_is_cut_off_is_not_delivered(name: str, samba_dir: Path) -> None:
    with listening(name) as listener, Smbd(samba_dir, short(name)) as client, listener.accept(10) as pipe:
        client.socket.sendall(framed(b"whole") + framed(b"cut off")[:-1])
        client.close()
        assert pipe.recv(timeout=10) == b"whole"
        with h.fails(109):
            pipe.recv(timeout=10)


@pytest.mark.parametrize("size", [0, 65536, 1 << 20])
def test_what_samba_cannot_carry_is_refused_before_anything_is_written(name: str, samba_dir: Path, size: int) -> None:
    with listening(name) as listener, Smbd(samba_dir, short(name)) as client, listener.accept(10) as pipe:
        with pytest.raises(npipe.PipeArgumentError, match=r"WinError 87.*1 to 65535 bytes"):
            pipe.send(bytes(size))
        with h.fails(87):
            pipe.send(bytes(size), timeout=0)
        pipe.send(b"next")
        assert client.message() == b"next"


@pytest.mark.parametrize("size", [0, 65536])
def test_it_is_refused_on_an_event_loop_too(name: str, samba_dir: Path, size: int) -> None:
    async def main() -> None:
        async with npipe.aio.listen(name, remote="samba", allow="alice") as listener:
            with await asyncio.to_thread(Smbd, samba_dir, short(name)) as client:
                pipe = await listener.accept(10)
                with h.fails(87):
                    await pipe.send(bytes(size))
                await pipe.send(b"next")
                assert await asyncio.to_thread(client.message) == b"next"
                assert pipe.peer.user == "alice"
                client.send(b"question")
                assert await pipe.recv(timeout=10) == b"question"
                await pipe.close()

    asyncio.run(main())


def test_a_local_client_of_the_same_pipe_has_no_such_limit(name: str, samba_dir: Path) -> None:
    del samba_dir
    with listening(name) as listener, npipe.connect(name) as client, listener.accept(10) as pipe:
        pipe.send(b"")
        sending = h.started(pipe.send, bytes(1 << 20))
        assert client.recv(timeout=10) == b""
        assert client.recv(timeout=10) == bytes(1 << 20)
        sending.result()


def test_a_byte_pipe_is_a_stream(name: str, samba_dir: Path) -> None:
    data = os.urandom(3_000_000)
    with npipe.listen(name, mode="byte", remote="samba", allow="alice") as listener:
        with Smbd(samba_dir, short(name)) as client, listener.accept(10) as pipe:
            assert client.reply[16:18] == b"\1\0"
            sending = h.started(client.socket.sendall, data)
            got = b""
            while len(got) < len(data):
                got += pipe.read(1 << 20, timeout=10)
            assert got == data
            sending.result()
            writing = h.started(lambda: pipe.write(data, timeout=20))
            assert client.receive(len(data)) == data
            writing.result()


@pytest.mark.parametrize("access", ["inbound", "outbound"])
def test_a_pipe_of_one_direction_carries_that(name: str, samba_dir: Path, access: Any) -> None:
    with listening(name, access=access) as listener, Smbd(samba_dir, short(name)) as client:
        assert client.let_in
        with listener.accept(10) as pipe:
            if access == "inbound":
                client.send(b"in")
                assert pipe.recv(timeout=10) == b"in"
            else:
                pipe.send(b"out")
                assert client.message() == b"out"
        assert client.message() is None


def test_what_one_side_does_not_read_holds_the_other_up(name: str, samba_dir: Path) -> None:
    count, message = 400, bytes(10_000)
    with listening(name, in_buffer_size=10_000) as listener, Smbd(samba_dir, short(name)) as client:
        with listener.accept(10) as pipe:
            client.socket.settimeout(None)
            sending = h.started(client.send, *(b"%04d" % number + message for number in range(count)))
            h.until(lambda: not _writable(client.socket))
            for number in range(count):
                assert pipe.recv(timeout=10)[:4] == b"%04d" % number
            sending.result()


# ---- How it ends


def test_what_a_server_wrote_before_it_closed_is_delivered(name: str, samba_dir: Path) -> None:
    messages = [b"%03d" % number * 100 for number in range(300)]
    with listening(name, out_buffer_size=1 << 20) as listener, Smbd(samba_dir, short(name)) as client:
        pipe = listener.accept(10)
        for message in messages:
            pipe.send(message, timeout=10)
        pipe.close()
        listener.close()
        # Samba 4.22 forgets what is unread when its socket ends: so it does not.
        assert client.message() == messages[0]
        assert not _has_ended(client.socket)
        assert list(client.messages()) == messages[1:]


def _send_all(pipe: npipe.MessagePipe, messages: list[bytes]) -> None:
    for message in messages:
        pipe.send(message, timeout=20)


def _writable(connection: socket.socket) -> bool:
    import select

    poll = select.poll()
    poll.register(connection, select.POLLOUT)
    return bool(poll.poll(0))


def _has_ended(connection: socket.socket) -> bool:
    """Whether the other side has closed, whatever is unread."""
    import select

    poll = select.poll()
    poll.register(connection, select.POLLRDHUP)
    return bool(poll.poll(200))


def test_the_socket_stays_until_the_last_byte_is_taken(name: str, samba_dir: Path) -> None:
    with listening(name) as listener, Smbd(samba_dir, short(name)) as client:
        pipe = listener.accept(10)
        pipe.send(b"the last word")
        pipe.close()
        assert not _has_ended(client.socket)
        assert client.receive(14) == framed(b"the last word")[:14]
        assert not _has_ended(client.socket)
        assert client.receive(1) == b"d"
        assert client.receive(1) == b""


def test_a_client_that_reads_nothing_is_not_waited_for_for_ever(
    name: str, samba_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay, "LINGER", 0.3)
    with listening(name) as listener, Smbd(samba_dir, short(name)) as client:
        pipe = listener.accept(10)
        pipe.send(b"unread")
        pipe.close()
        h.until(lambda: _has_ended(client.socket))


def test_a_flush_and_a_disconnect_lose_nothing_that_was_flushed(name: str, samba_dir: Path) -> None:
    with listening(name) as listener, Smbd(samba_dir, short(name)) as client:
        pipe = listener.accept(10)
        pipe.send(b"flushed")
        pipe.flush(timeout=10)
        pipe.abort()
        assert client.message() == b"flushed"
        assert client.message() is None


def test_a_client_that_writes_and_goes_is_read(name: str, samba_dir: Path) -> None:
    with listening(name) as listener:
        with Smbd(samba_dir, short(name)) as client:
            client.send(b"one", b"two")
        with listener.accept(10) as pipe:
            assert [pipe.recv(timeout=10), pipe.recv(timeout=10)] == [b"one", b"two"]
            with h.fails(109):
                pipe.recv(timeout=10)


def test_a_client_that_goes_ends_a_wait_for_it(name: str, samba_dir: Path) -> None:
    with listening(name) as listener, Smbd(samba_dir, short(name)) as client, listener.accept(10) as pipe:
        waiting = h.blocked(pipe.recv)
        client.close()
        assert waiting.code() == 109


def test_a_client_that_goes_frees_a_server_that_writes(name: str, samba_dir: Path) -> None:
    with listening(name, out_buffer_size=1000) as listener, Smbd(samba_dir, short(name)) as client:
        with listener.accept(10) as pipe:

            def write_for_ever() -> None:
                while True:
                    pipe.send(bytes(60_000))

            writing = h.blocked(write_for_ever)
            client.close()
            assert writing.code() in (109, 232)


def test_a_listener_that_closes_leaves_its_clients(name: str, samba_dir: Path) -> None:
    listener = listening(name)
    with Smbd(samba_dir, short(name)) as client, listener.accept(10) as pipe:
        listener.close()
        assert exported(samba_dir) == []
        client.send(b"still")
        assert pipe.recv(timeout=10) == b"still"
        pipe.send(b"here")
        assert client.message() == b"here"


# ---- Instances


def test_who_finds_no_instance_is_answered_and_waits_for_one(name: str, samba_dir: Path) -> None:
    with listening(name, max_instances=1) as listener, Smbd(samba_dir, short(name)) as first:
        pipe = listener.accept(10)
        with Smbd(samba_dir, short(name), BOB) as second:
            assert second.let_in
            second.send(b"early")
            first.send(b"first")
            assert pipe.recv(timeout=10) == b"first"
            pipe.close()
            with listener.accept(10) as pipe:
                assert pipe.peer.user == "news"
                assert pipe.recv(timeout=10) == b"early"


def test_who_goes_while_it_waits_takes_no_instance(name: str, samba_dir: Path) -> None:
    with listening(name, max_instances=1) as listener, Smbd(samba_dir, short(name)):
        pipe = listener.accept(10)
        with Smbd(samba_dir, short(name), BOB) as second:
            assert second.let_in
            h.until(lambda: h.requests_held(name) == 1)
        h.until(lambda: h.requests_held(name) == 0)
        pipe.close()
        with pytest.raises(npipe.PipeTimeoutError):
            listener.accept(0)


def test_who_waits_for_an_instance_is_turned_away_in_time(
    name: str, samba_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gateway, "PATIENCE", 0.2)
    with listening(name, max_instances=1) as listener, Smbd(samba_dir, short(name)):
        with listener.accept(10), Smbd(samba_dir, short(name), BOB) as second:
            assert second.let_in
            assert second.message() is None


def test_a_probe_is_answered_and_takes_no_instance(name: str, samba_dir: Path) -> None:
    with listening(name, max_instances=1) as listener:
        for _ in range(3):
            with Smbd(samba_dir, short(name), PROBE) as probe:
                assert probe.let_in
                assert probe.message() is None
        with pytest.raises(npipe.PipeTimeoutError):
            listener.accept(0)
    with listening(name, allow=()), Smbd(samba_dir, short(name), PROBE) as probe:
        assert not probe.let_in


def test_64_clients_at_once(name: str, samba_dir: Path) -> None:
    def answer(request: bytes, connection: npipe.Connection) -> bytes:
        return request + (connection.user or "").encode()

    with npipe.serve(name, answer, remote="samba", allow="authenticated") as server:
        clients = [Smbd(samba_dir, short(name), Request(account=f"user{n}").packed()) for n in range(64)]
        for turn in range(10):
            for number, client in enumerate(clients):
                client.send(b"%d.%d " % (turn, number))
            for number, client in enumerate(clients):
                assert client.message() == b"%d.%d user%d" % (turn, number, number)
        for client in clients:
            client.close()
        h.until(lambda: server.clients == 0)


@pytest.mark.parametrize("model", ["threaded", "overlapped", "completion"])
def test_each_of_the_three_servers_serves_the_network(name: str, samba_dir: Path, model: Any) -> None:
    def answer(request: bytes, connection: npipe.Connection) -> bytes:
        peer = connection.peer
        return request.upper() + f" {peer.user} {peer.origin}".encode()

    with npipe.serve(name, answer, model=model, remote="samba", allow="alice") as server:
        with Smbd(samba_dir, short(name)) as client:
            for word in (b"one", b"two"):
                client.send(word)
                assert client.message() == word.upper() + b" alice samba"
        assert npipe.call(name, b"here").endswith(b" local")
        with Smbd(samba_dir, short(name), BOB) as client:
            assert not client.let_in
        server.close()
        assert exported(samba_dir) == []


def test_an_event_loop_s_server_serves_the_network(name: str, samba_dir: Path) -> None:
    async def main() -> None:
        async with await npipe.aio.serve(name, bytes.upper, remote="samba", allow="alice"):
            with await asyncio.to_thread(Smbd, samba_dir, short(name)) as client:
                client.send(b"hello")
                assert await asyncio.to_thread(client.message) == b"HELLO"

    asyncio.run(main())


# ---- Hostile and broken ones


@pytest.mark.parametrize(
    "said",
    [b"", b"\0", b"\0\0\2\0", ALICE[:-1], ALICE[:100], b"GET / HTTP/1.0\r\n\r\n" * 10, b"\xff" * 100, bytes(100)],
    ids=["nothing", "a byte", "a length", "all but one", "a part", "HTTP", "ones", "zeros"],
)
def test_who_makes_no_sense_is_turned_away(name: str, samba_dir: Path, said: bytes) -> None:
    with listening(name) as listener:
        with Smbd(samba_dir, short(name), None) as client:
            client.socket.sendall(said)
            client.socket.shutdown(socket.SHUT_WR)
            assert client.receive(1) == b""
        with Smbd(samba_dir, short(name)) as client, listener.accept(10) as pipe:
            client.send(b"still here")
            assert pipe.recv(timeout=10) == b"still here"


def test_who_says_nothing_is_turned_away_in_time(name: str, samba_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gateway, "_REQUEST_PATIENCE", 0.2)
    with listening(name), Smbd(samba_dir, short(name), None) as client:
        client.socket.sendall(ALICE[:50])
        assert client.receive(1) == b""


def test_a_user_of_a_thousand_groups_is_told_of(name: str, samba_dir: Path) -> None:
    sids = ("S-1-5-11", *(f"S-1-5-21-1111111111-2222222222-3333333333-{n}" for n in range(1000)))
    request = Request(sids=sids, groups=tuple(range(1000)))
    with listening(name) as listener, Smbd(samba_dir, short(name), request.packed()) as client:
        assert client.let_in
        with listener.accept(10) as pipe:
            assert pipe.peer.sids == sids
    too_many = Request(sids=("S-1-5-11", *(f"S-1-5-21-1111111111-2222222222-3333333333-{n}" for n in range(4000))))
    with listening(name), Smbd(samba_dir, short(name), too_many.packed()) as client:
        assert not client.let_in


# ---- Names and processes


def test_names_are_looked_up_in_lower_case(samba_dir: Path) -> None:
    for name in ("MixedCase", "sub\\Pipe", "With Spaces", "Größe-ÄÖÜ"):
        with listening(name) as listener:
            assert exported(samba_dir) == [name.lower()]
            with Smbd(samba_dir, name) as client, listener.accept(10) as pipe:
                client.send(b"x")
                assert pipe.recv(timeout=10) == b"x"


def test_a_name_whose_path_is_too_long_is_told(samba_dir: Path) -> None:
    del samba_dir
    with h.fails(123):
        listening("x" * 120)
    assert npipe.list_pipes() == []


def test_a_pipe_is_exported_by_one_process(name: str, samba_dir: Path) -> None:
    with listening(name, exclusive=False):
        with pytest.raises(npipe.PipeAccessError, match=r"WinError 5.*another process exports it"):
            listening(name, exclusive=False)
        with Smbd(samba_dir, short(name)) as client:
            assert client.let_in


def test_a_dead_process_s_socket_is_taken_over(name: str, samba_dir: Path, child: Start) -> None:
    server = child(SERVER, name)
    assert server.line() == "listening"
    server.kill()
    assert (samba_dir / "np" / short(name)).is_socket()
    with listening(name) as listener, Smbd(samba_dir, short(name)) as client:
        client.send(b"x")
        with listener.accept(10) as pipe:
            assert pipe.recv(timeout=10) == b"x"


def test_a_folder_that_cannot_be_written_to_is_told(name: str) -> None:
    with h.fails(50):
        listening(name, samba_dir="/proc/nowhere")
    assert npipe.list_pipes() == []


def test_a_forked_child_has_none_of_it(name: str, samba_dir: Path) -> None:
    listener = listening(name)
    with Smbd(samba_dir, short(name)) as client:
        pipe = listener.accept(10)
        reader, writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(writer)
            os.read(reader, 1)
            os._exit(0)
        os.close(reader)
        assert (samba_dir / "np" / short(name)).is_socket()
        pipe.send(b"from the parent")
        pipe.close()
        assert client.message() == b"from the parent"
        assert client.message() is None  # though the child lives
        listener.close()
        assert exported(samba_dir) == []
        os.close(writer)
        os.waitpid(pid, 0)


def test_what_a_server_writes_right_before_its_process_ends_gets_out(name: str, samba_dir: Path, child: Start) -> None:
    script = """
    import sys, npipe
    listener = npipe.listen(sys.argv[1], remote="samba", allow="authenticated")
    print("listening", flush=True)
    pipe = listener.accept()
    for number in range(100):
        pipe.send(b"%d" % number)
    """
    server = child(script, name)
    assert server.line() == "listening"
    with Smbd(samba_dir, short(name)) as client:
        assert list(client.messages()) == [b"%d" % number for number in range(100)]
    assert server.wait() == 0
    assert exported(samba_dir) == []


def test_a_client_that_waited_gets_what_a_server_writes_right_before_its_process_ends(
    name: str, samba_dir: Path, child: Start
) -> None:
    script = """
    import sys, npipe
    listener = npipe.listen(sys.argv[1], remote="samba", allow="authenticated", max_instances=1)
    print("listening", flush=True)
    with listener.accept():
        print("busy", flush=True)
        input()
    pipe = listener.accept()
    for number in range(100):
        pipe.send(b"%d" % number)
    """
    server = child(script, name)
    assert server.line() == "listening"
    with Smbd(samba_dir, short(name)):
        assert server.line() == "busy"
        with Smbd(samba_dir, short(name)) as client:
            assert client.let_in
            server.say("")
            assert list(client.messages()) == [b"%d" % number for number in range(100)]
    assert server.wait() == 0


def test_a_client_that_has_an_instance_keeps_it_when_the_export_ends_before_the_gateway_knows(
    name: str, samba_dir: Path
) -> None:
    stopped, goes_on = threading.Event(), threading.Event()

    def stand_still() -> None:
        stopped.set()
        assert goes_on.wait(10)

    with listening(name, max_instances=1) as listener, Smbd(samba_dir, short(name)):
        pipe = listener.accept(10)
        with Smbd(samba_dir, short(name)) as client:
            assert client.let_in
            h.until(lambda: sum(owner.waiting for owner in npipe.inspect(name).owners) == 1)
            assert gateway._gateway is not None
            gateway._gateway.call(stand_still)
            assert stopped.wait(10)
            pipe.close()
            pipe = listener.accept(10)
            listener.close()
            pipe.send(b"for you")
            goes_on.set()
            assert client.message() == b"for you"
            client.send(b"and you")
            assert pipe.recv(timeout=10) == b"and you"
            pipe.close()
            assert client.message() is None


def test_a_client_that_has_an_instance_keeps_it_however_often_it_is_turned_away(name: str, samba_dir: Path) -> None:
    stopped, goes_on, cancelled = threading.Event(), threading.Event(), list[int]()

    def stand_still() -> None:
        stopped.set()
        assert goes_on.wait(10)
        [task] = [one for export in gateway._exports for one in export._waiting]
        loop = asyncio.get_running_loop()

        def once_more() -> None:  # as an export's end does with one that has to make room
            cancelled.append(task.cancelling())
            if task in {one for export in gateway._exports for one in export._waiting}:
                task.cancel()

        loop.call_soon(loop.call_soon, once_more)  # between its first answer and its last look
        task.cancel()

    with listening(name, max_instances=1) as listener, Smbd(samba_dir, short(name)):
        pipe = listener.accept(10)
        with Smbd(samba_dir, short(name)) as client:
            assert client.let_in
            h.until(lambda: sum(owner.waiting for owner in npipe.inspect(name).owners) == 1)
            assert gateway._gateway is not None
            gateway._gateway.call(stand_still)
            assert stopped.wait(10)
            pipe.close()
            pipe = listener.accept(10)
            pipe.send(b"for you")
            goes_on.set()
            assert client.message() == b"for you"
            assert cancelled == [1]
            client.send(b"and you")
            assert pipe.recv(timeout=10) == b"and you"
            pipe.close()
            assert client.message() is None


# ---- Other processes' pipes

OTHER = """
import sys, npipe
with npipe.serve(sys.argv[1], bytes.upper):
    print("serving", flush=True)
    input()
"""


def test_another_process_s_pipe_is_exported_while_it_is_there(name: str, samba_dir: Path, child: Start) -> None:
    path = samba_dir / "np" / short(name)
    with npipe.export(name, allow="alice", samba_dir=samba_dir) as export:
        assert (export.name, export.samba_dir, export.closed) == (name, str(samba_dir), False)
        for _ in range(2):
            assert not path.exists()
            server = child(OTHER, name)
            assert server.line() == "serving"
            h.until(path.is_socket)
            with Smbd(samba_dir, short(name)) as client:
                client.send(b"hello")
                assert client.message() == b"HELLO"
            server.say("")
            assert server.wait() == 0
            with contextlib.suppress(ConnectionRefusedError, FileNotFoundError), Smbd(samba_dir, short(name)) as client:
                assert not client.let_in
            h.until(lambda: not path.exists())
    assert export.closed


def test_an_export_ends_without_its_pipe(name: str, samba_dir: Path) -> None:
    npipe.export(name, allow="alice", samba_dir=samba_dir).close()
    assert list(samba_dir.glob("np/*")) == []


def test_an_export_lets_in_who_is_allowed(name: str, samba_dir: Path, child: Start) -> None:
    server = child(OTHER, name)
    assert server.line() == "serving"
    with npipe.export(name, allow="alice", require_encryption=True, samba_dir=samba_dir):
        h.until((samba_dir / "np" / short(name)).is_socket)
        for request, welcome in ((ALICE, True), (SIGNED, False), (BOB, False), (GUEST, False)):
            with Smbd(samba_dir, short(name), request) as client:
                assert client.let_in == welcome


def test_header_and_payload_are_one_write(name: str, samba_dir: Path) -> None:
    """A reader that looks at any moment finds a message's beginning with its header, however full the socket is."""
    with listening(name, out_buffer_size=1 << 20) as listener, Smbd(samba_dir, short(name)) as client:
        with listener.accept(10) as pipe:
            sending = h.started(_send_all, pipe, [bytes(60_000)] * 50)
            for _ in range(50):
                head = client.socket.recv(2)
                assert struct.unpack("<H", head) == (60_000,)
                # Without a wait: it comes with its header. (The kernel hands a long write on in pieces of 32 KiB.)
                came = len(client.socket.recv(60_000, socket.MSG_DONTWAIT))
                assert (
                    came + len(client.socket.recv(60_000 - came, socket.MSG_WAITALL) if came < 60_000 else b"")
                    == 60_000
                )
            sending.result()
