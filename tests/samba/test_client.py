"""Pipes of another machine, opened by npipe: the other machine is a real smbd on a port of this one."""

from __future__ import annotations

import copy
import gc
import hashlib
import io
import logging
import os
import pickle
import random
import re
import signal
import socket
import struct
import sys
import threading
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

import npipe
from npipe._tapping import Event, Flags, Kind
from npipe.tracing.own import Recorder
from npipe.transports.smb import connections
from tests import helpers as h
from tests.samba.clients import PASSWORD
from tests.samba.conftest import samba_version
from tests.samba.proxy import Proxy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from npipe.samba import PrivateSmbd
    from tests.conftest import Child

HOST = "127.0.0.1"
EXACT = 0.2
"""Seconds by which a time-out may be late on a machine that has other things to do."""


def has_wait() -> bool:
    """Whether this Samba has FSCTL_PIPE_WAIT, which only looks whether there is a pipe."""
    return samba_version() >= (4, 25)


@pytest.fixture(autouse=True)
def _no_connection_is_left() -> Iterator[None]:
    yield
    gc.collect()
    connections.close_idle()
    h.until(lambda: not [one for one in threading.enumerate() if one.name.startswith("npipe-smb")])


def remote(port: int, user: str = "alice", password: str = PASSWORD, **options: Any) -> npipe.Remote:
    return npipe.Remote(user, password, port=port, auth=options.pop("auth", "ntlm"), **options)


def there(name: str) -> str:
    return rf"\\{HOST}\pipe\{name}"


def listening(name: str, **options: Any) -> npipe.Listener[Any]:
    return npipe.listen(name, remote="samba", allow="authenticated", **options)


def error_of(call: h.Background[Any]) -> BaseException:
    with pytest.raises(npipe.PipeError) as raised:
        call.result(20)
    return raised.value


def blocked(pipe: Any, call: Callable[[], Any]) -> h.Background[Any]:
    """A call in a thread that waits for the host."""
    background = h.started(call)
    h.until(lambda: bool(pipe._file._waiting))
    return background


class Both:
    """A client's end and its server's."""

    def __init__(self, port: int, name: str, mode: Any = "message", **options: Any) -> None:
        self.listener = listening(name, mode=mode)
        try:
            self.client: Any = npipe.connect(there(name), mode=mode, remote=remote(port, **options))
            try:
                self.server: Any = self.listener.accept(20)
            except BaseException:
                self.client.close()
                raise
        except BaseException:
            self.listener.close()
            raise

    def __enter__(self) -> tuple[Any, Any]:
        return self.client, self.server

    def __exit__(self, *_: object) -> None:
        self.client.close()
        self.server.close()
        self.listener.close()


# ---- What is carried


def test_a_call_is_answered(smbd: PrivateSmbd, short: str) -> None:
    with npipe.serve(short, bytes.upper, remote="samba", allow="authenticated"):
        assert npipe.call(there(short), b"hello", remote=remote(smbd.port)) == b"HELLO"
        assert npipe.call(there(short.upper()), b"again", remote=remote(smbd.port, "bob")) == b"AGAIN"


@pytest.mark.parametrize("encrypt", [False, True], ids=["signed", "encrypted"])
def test_messages_of_all_lengths_come_whole_and_once(smbd: PrivateSmbd, short: str, encrypt: bool) -> None:
    lengths = [1, 2, 511, 512, 4095, 4096, 8192, 65534, 65535]
    messages = [random.Random(length).randbytes(length) for length in lengths]
    with Both(smbd.port, short, encrypt=encrypt) as (client, server):
        assert client.peer.encrypted is server.peer.encrypted is encrypt
        for message in messages:
            client.send(message, timeout=20)
            assert server.recv(timeout=20) == message
            server.send(message, timeout=20)
            assert client.recv(timeout=20) == message
        echo = h.started(lambda: [server.send(server.recv(timeout=20)) for _ in messages])
        assert [client.transact(message, timeout=20) for message in messages] == messages
        echo.result()


def test_a_process_that_is_recorded_records_these_pipes_too(smbd: PrivateSmbd, short: str) -> None:
    events: list[Event] = []
    recorder = Recorder(events.append, snaplen=1 << 20)
    try:
        with Both(smbd.port, short) as (client, server):
            client.send(b"hello", timeout=20)
            assert server.recv(timeout=20) == b"hello"
            server.send(b"x" * 60000, timeout=20)
            assert client.recv(timeout=20) == b"x" * 60000
            echo = h.started(lambda: server.send(server.recv(timeout=20).upper()))
            assert client.transact(b"what", timeout=20) == b"WHAT"
            echo.result()
            server.close()
            with pytest.raises(npipe.PipeClosedError):
                client.recv(timeout=20)
    finally:
        recorder.close()
    mine = [event for event in events if event.pipe == there(short)]
    assert [event.kind for event in mine] == [Kind.OPENED, *[Kind.DATA] * 4, Kind.GONE, Kind.CLOSED]
    assert [(event.direction, event.data) for event in mine if event.kind is Kind.DATA] == [
        ("out", b"hello"),
        ("in", b"x" * 60000),
        ("out", b"what"),
        ("in", b"WHAT"),
    ]
    its = [event for event in events if event.pipe == rf"\\.\pipe\{short}"]
    assert [event.data for event in its if event.kind is Kind.DATA and event.flags & Flags.SERVER] == [
        event.data for event in mine if event.kind is Kind.DATA
    ]


def test_messages_that_samba_loses_are_refused_before_they_are_sent(smbd: PrivateSmbd, short: str) -> None:
    with Both(smbd.port, short) as (client, server):
        for data in (b"", bytes(65536), bytes(100_000)):
            for call in (client.send, client.transact):
                with pytest.raises(npipe.PipeArgumentError, match=r"1 to 65,535 bytes"):
                    call(data)
        client.send(b"goes on")
        assert server.recv(timeout=20) == b"goes on"
        assert client._owed == 0


def test_a_message_is_read_in_parts(smbd: PrivateSmbd, short: str) -> None:
    with Both(smbd.port, short) as (client, server):
        server.send(b"0123456789")
        server.send(b"next")
        buffer = bytearray(4)
        assert client.recv_into(buffer, timeout=20) == 4
        assert (bytes(buffer), client.more_data) == (b"0123", True)
        with pytest.raises(npipe.PipeMessageTooLargeError):
            client.recv_into(buffer, exact=True)
        assert client.recv_into(buffer) == 4
        assert bytes(buffer) == b"4567"
        assert (client.recv(), client.more_data) == (b"89", False)
        client.max_message_size = 3
        with pytest.raises(npipe.PipeMessageTooLargeError):
            client.recv(timeout=20)
        client.max_message_size = 4
        assert client.recv() == b"next"


def test_both_ways_at_once_nothing_is_lost_or_doubled(smbd: PrivateSmbd, short: str) -> None:
    count = 300

    def messages(seed: int) -> list[bytes]:
        source = random.Random(seed)
        return [index.to_bytes(4, "big") + source.randbytes(source.randrange(2000)) for index in range(count)]

    def send(pipe: Any, seed: int) -> None:
        for message in messages(seed):
            pipe.send(message, timeout=30)

    with Both(smbd.port, short) as (client, server):
        senders = [h.started(send, client, 1), h.started(send, server, 2)]
        reader = h.started(lambda: [server.recv(timeout=30) for _ in range(count)])
        assert [client.recv(timeout=30) for _ in range(count)] == messages(2)
        assert reader.result(30) == messages(1)
        for sender in senders:
            sender.result(30)


def test_a_stream_of_bytes_is_carried(smbd: PrivateSmbd, short: str) -> None:
    data = random.Random(3).randbytes(3_000_000)
    with Both(smbd.port, short, mode="byte") as (client, server):

        def sink() -> str:
            digest = hashlib.sha256()
            left = len(data)
            while left:
                piece = server.read(65536, timeout=30)
                digest.update(piece)
                left -= len(piece)
            return digest.hexdigest()

        reader = h.started(sink)
        assert client.write(data, timeout=30) == len(data)
        assert reader.result(30) == hashlib.sha256(data).hexdigest()
        writer = h.started(server.write, data)
        got = bytearray()
        while len(got) < len(data):
            got += client.read(10_000, timeout=30)
        assert got == data
        writer.result()
        with client.makefile("rb") as file:
            server.write(b"a line\n")
            assert file.readline() == b"a line\n"  # before the close: Samba 4.17 may lose what it reads just then
            server.close()
            assert file.readlines() == []


def test_a_message_pipe_is_read_as_bytes(smbd: PrivateSmbd, short: str) -> None:
    with listening(short) as listener, npipe.connect(there(short), mode="byte", remote=remote(smbd.port)) as client:
        with listener.accept(20) as server:
            server.send(b"one")
            server.send(b"two")
            assert [client.read(2, timeout=20) for _ in range(2)] == [b"on", b"e"]
            assert client.read(10, timeout=20) == b"two"
            client.write(b"a message")
            assert server.recv(timeout=20) == b"a message"
            with pytest.raises(npipe.PipeArgumentError, match="65,535"):
                client.write(bytes(70_000))
            client.write(b"goes on")
            assert server.recv(timeout=20) == b"goes on"


def test_what_it_may_not_do_is_refused_here(smbd: PrivateSmbd, short: str) -> None:
    with listening(short), npipe.connect(there(short), access="read", remote=remote(smbd.port)) as client:
        for call in (lambda: client.send(b"x"), lambda: client.transact(b"x")):
            assert h.code_of(call) == 5
    with listening(short), npipe.connect(there(short), access="write", remote=remote(smbd.port)) as client:
        assert h.code_of(lambda: client.recv(timeout=0)) == 5


def test_what_samba_does_not_have_is_said_clearly(smbd: PrivateSmbd, short: str) -> None:
    with Both(smbd.port, short) as (client, _):
        for call in (
            client.peek,
            client.flush,
            lambda: npipe.list_pipes(HOST, remote=remote(smbd.port)),
            client.fileno,
        ):
            assert h.code_of(call) == 50


def test_a_wait_finds_a_pipe_where_samba_has_one_and_takes_no_instance(smbd: PrivateSmbd, short: str) -> None:
    def wait() -> int:
        return h.code_of(lambda: npipe.wait(there(short), timeout=5, remote=remote(smbd.port)))

    assert wait() == (2 if has_wait() else 50)
    with Both(smbd.port, short) as (client, server):
        for _ in range(3):
            assert wait() == (0 if has_wait() else 50)
        client.send(b"goes on")
        assert server.recv(timeout=20) == b"goes on"
    with listening(short) as listener:
        assert wait() == (0 if has_wait() else 50)
        assert h.code_of(lambda: listener.accept(0.1)) == 121
        with npipe.connect(there(short), mode="message", remote=remote(smbd.port)) as client:
            with listener.accept(20) as server:
                client.send(b"the first client")
                assert server.recv(timeout=20) == b"the first client"
    assert wait() == (2 if has_wait() else 50)


# ---- Time-outs


@pytest.mark.parametrize("timeout", [0.05, 0.25, 1.3])
def test_a_read_that_times_out_is_exact_and_takes_nothing(smbd: PrivateSmbd, short: str, timeout: float) -> None:
    with Both(smbd.port, short, encrypt=timeout < 0.1) as (client, server):
        for _ in range(3):
            begun = time.monotonic()
            assert h.code_of(lambda: client.recv(timeout=timeout)) == 121
            assert timeout <= time.monotonic() - begun < timeout + EXACT
        for number in range(5):
            server.send(b"message %d" % number)
        assert [client.recv(timeout=20) for _ in range(5)] == [b"message %d" % number for number in range(5)]
        assert h.code_of(lambda: client.recv(timeout=0)) == 121


def test_a_time_out_that_is_over_before_the_request_is_sent_is_no_look(smbd: PrivateSmbd, short: str) -> None:
    """One of 0 gives the host 5 seconds to say what there is; any other is exact, also on a busy machine."""
    with Proxy(smbd.port) as proxy, Both(proxy.port, short) as (client, _):
        proxy.hold("down")
        for timeout in (1e-9, 1e-4):
            for call in (partial(client.recv, timeout=timeout), partial(client.send, b"x", timeout=timeout)):
                begun = time.monotonic()
                assert h.code_of(call) == 121
                assert time.monotonic() - begun < EXACT
        begun = time.monotonic()
        assert h.code_of(lambda: client.transact(b"x", timeout=1e-9)) == 121
        assert time.monotonic() - begun < EXACT
        proxy.let_go("down")


def test_a_read_without_a_wait_finds_what_is_there(smbd: PrivateSmbd, short: str) -> None:
    with Both(smbd.port, short) as (client, server):
        server.send(b"one")
        server.flush(timeout=20)  # smbd's part has it
        assert client.recv(timeout=0) == b"one"
        assert client._has_unread() is False
        server.send(b"two")
        assert client.recv(timeout=20) == b"two"


def test_the_answer_that_came_too_late_is_owed(smbd: PrivateSmbd, short: str) -> None:
    with Both(smbd.port, short) as (client, server):
        for drop in (False, True):
            begun = time.monotonic()
            with pytest.raises(npipe.PipeTimeoutError) as raised:
                client.transact(b"first", timeout=0.2)
            assert 0.2 <= time.monotonic() - begun < 0.2 + EXACT
            assert raised.value.sent is True
            assert h.code_of(lambda: client.transact(b"second")) == 996
            assert server.recv(timeout=20) == b"first"
            assert h.code_of(lambda: client.discard_reply(timeout=0.1)) == 121
            server.send(b"late")
            if drop:
                client.discard_reply(timeout=20)
            else:
                assert client.recv(timeout=20) == b"late"
            echo = h.started(lambda: server.send(server.recv(timeout=20) + b" answered"))
            assert client.transact(b"third", timeout=20) == b"third answered"
            echo.result()


def test_a_transaction_behind_a_read_that_was_given_up_has_its_answer(smbd: PrivateSmbd, short: str) -> None:
    with Both(smbd.port, short) as (client, server):
        assert h.code_of(lambda: client.recv(timeout=0.05)) == 121
        echo = h.started(lambda: server.send(server.recv(timeout=20) + b" answered"))
        assert client.transact(b"asked", timeout=20) == b"asked answered"
        echo.result()
        assert h.code_of(lambda: client.recv(timeout=0.05)) == 121
        server.send(b"unasked")
        h.until(lambda: client._file.has_answer)
        assert h.code_of(lambda: client.transact(b"refused")) == 231
        assert client.recv() == b"unasked"
        assert h.code_of(lambda: server.recv(timeout=0.05)) == 121


def test_a_write_that_the_server_does_not_take_is_told_and_goes_on(smbd: PrivateSmbd, short: str) -> None:
    message = bytes(60_000)
    with Both(smbd.port, short) as (client, server):
        sent = 0
        with pytest.raises(npipe.PipeTimeoutError, match="cannot be withdrawn"):
            while True:
                client.send(message, timeout=0.3)
                sent += 1
        # What came before, and this one, come once.
        assert [server.recv(timeout=20) for _ in range(sent + 1)] == [message] * (sent + 1)
        client.send(b"next")
        assert server.recv(timeout=20) == b"next"


def test_a_stream_whose_write_timed_out_says_how_much_was_sent(smbd: PrivateSmbd, short: str) -> None:
    data = random.Random(5).randbytes(1_000_000)
    with Both(smbd.port, short, mode="byte") as (client, server):
        with pytest.raises(npipe.PipeTimeoutError, match=r"of 1000000 bytes were sent.*only the rest") as raised:
            client.write(data, timeout=0.5)
        found = re.search(r"(\d+) of 1000000 bytes", str(raised.value))
        assert found is not None
        sent = int(found[1])
        assert 0 < sent < len(data)
        rest = h.started(lambda: client.write(data[sent:], timeout=30))
        got = bytearray()
        while len(got) < len(data):
            got += server.read(65536, timeout=20)
        assert got == data
        assert rest.result(20) == len(data) - sent
        assert h.code_of(lambda: server.read(1, timeout=0.05)) == 121


# ---- Ends


def test_a_close_ends_the_calls_of_other_threads(smbd: PrivateSmbd, short: str) -> None:
    with Both(smbd.port, short) as (client, server):
        reader = blocked(client, client.recv)
        client.close()
        h.has_code(error_of(reader), 109)
        assert client.closed
        for call in (client.recv, lambda: client.send(b"x"), lambda: client.peer):
            assert h.code_of(call) == 6
        assert h.code_of(lambda: server.recv(timeout=20)) == 109
        client.close()


def test_a_server_that_ends_is_the_end(smbd: PrivateSmbd, short: str) -> None:
    with Both(smbd.port, short) as (client, server):
        for number in range(20):
            server.send(b"last words %d" % number)
        server.close()
        assert list(client) == [b"last words %d" % number for number in range(20)]
        assert h.code_of(lambda: client.recv(timeout=20)) == 109
        assert h.code_of(lambda: client.send(b"x")) == 232
        assert h.code_of(lambda: client.transact(b"x")) == 230


def test_a_server_that_ends_in_a_transaction(smbd: PrivateSmbd, short: str) -> None:
    with Both(smbd.port, short) as (client, server):
        asked = blocked(client, lambda: client.transact(b"question"))
        assert server.recv(timeout=20) == b"question"
        server.close()
        h.has_code(error_of(asked), 109)


def test_a_server_that_is_killed_in_a_transaction(smbd: PrivateSmbd, short: str, child: Callable[..., Child]) -> None:
    script = """
    import sys, npipe
    with npipe.listen(sys.argv[1], remote="samba", allow="authenticated") as listener:
        print("listening", flush=True)
        pipe = listener.accept()
        print(pipe.recv().decode(), flush=True)
        pipe.recv()
    """
    server = child(script, short)
    assert server.line() == "listening"
    with npipe.connect(there(short), remote=remote(smbd.port)) as client:
        asked = blocked(client, lambda: client.transact(b"question"))
        assert server.line() == "question"
        server.kill()
        error = error_of(asked)
        assert isinstance(error, npipe.PipeClosedError)
        h.has_code(error, 109)
        assert h.code_of(lambda: client.recv(timeout=20)) == 109
        assert h.code_of(lambda: client.send(b"x")) == 232
        assert h.code_of(lambda: npipe.connect(there(short), remote=remote(smbd.port), timeout=5)) == 2


def test_a_missing_pipe_is_missing(smbd: PrivateSmbd, short: str) -> None:
    assert h.code_of(lambda: npipe.connect(there(short), remote=remote(smbd.port))) == 2
    begun = time.monotonic()
    assert (
        h.code_of(lambda: npipe.connect(there(short), remote=remote(smbd.port), wait_for_server=True, timeout=0.4))
        == 121
    )
    assert 0.4 <= time.monotonic() - begun < 0.4 + EXACT


def test_a_server_that_comes_later_is_waited_for(smbd: PrivateSmbd, short: str) -> None:
    client = h.started(lambda: npipe.connect(there(short), remote=remote(smbd.port), wait_for_server=True, timeout=20))
    with listening(short) as listener, listener.accept(20) as server, client.result(20) as pipe:
        server.send(b"welcome")
        assert pipe.recv(timeout=20) == b"welcome"


# ---- Who


def test_who_is_not_known_or_not_allowed(smbd: PrivateSmbd, short: str) -> None:
    with npipe.listen(short, remote="samba", allow="games"):
        for user, password in (("alice", "wrong"), ("no-such-user", PASSWORD)):
            with pytest.raises(npipe.PipeAccessError) as raised:
                npipe.connect(there(short), remote=remote(smbd.port, user, password))
            assert raised.value.winerror == 1326
        with pytest.raises(npipe.PipeAccessError) as raised:
            npipe.connect(there(short), remote=remote(smbd.port, "bob"))
        assert raised.value.winerror == 5
        npipe.connect(there(short), remote=remote(smbd.port)).close()


@pytest.mark.parametrize("protocol", ["SMB2_10", "SMB3_00", "SMB3_02", "SMB3_11"])
def test_each_version_of_the_protocol(own_smbd: Callable[..., PrivateSmbd], short: str, protocol: str) -> None:
    smbd = own_smbd(extra=f"server max protocol = {protocol}")
    with npipe.serve(short, bytes.upper, remote="samba", allow="authenticated"):
        assert npipe.call(there(short), b"hello", remote=remote(smbd.port)) == b"HELLO"
        if protocol == "SMB2_10":
            with pytest.raises(npipe.PipeStateError, match="cannot encrypt"):
                npipe.call(there(short), b"hello", remote=remote(smbd.port, encrypt=True))
        else:
            assert npipe.call(there(short), b"again", remote=remote(smbd.port, encrypt=True)) == b"AGAIN"


def test_encryption_that_the_host_demands(own_smbd: Callable[..., PrivateSmbd], short: str) -> None:
    smbd = own_smbd(encrypt="required")
    with Both(smbd.port, short) as (client, server):
        assert client.peer.encrypted
        assert server.peer.encrypted
    with pytest.raises(npipe.PipeStateError, match="demands encryption"):
        npipe.connect(there(short), remote=remote(smbd.port, encrypt=False))


def test_an_old_host_is_refused(own_smbd: Callable[..., PrivateSmbd], short: str) -> None:
    smbd = own_smbd(extra="server min protocol = SMB2_02\nserver max protocol = SMB2_02")
    with pytest.raises(npipe.PipeStateError, match=r"2\.0\.2"):
        npipe.connect(there(short), remote=remote(smbd.port))


def test_a_guest_is_nobody(own_smbd: Callable[..., PrivateSmbd], short: str) -> None:
    smbd = own_smbd(guests=True)
    with npipe.listen(short, remote="samba", allow=("authenticated", "guests")):
        with pytest.raises(npipe.PipeAccessError, match="guest") as raised:
            npipe.connect(there(short), remote=remote(smbd.port, "nobody-of-that-name"))
        assert raised.value.winerror == 1326


def test_the_password_is_shown_nowhere(
    smbd: PrivateSmbd, short: str, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    secret = "a secret that is not to be seen"
    who = remote(smbd.port, password=secret)
    seen = [repr(who), str(who), repr(vars(type(who))), repr(connections.__dict__)]
    for case in (
        lambda: npipe.connect(there(short), remote=who),
        lambda: npipe.connect(there(short), remote=remote(smbd.port, "\0", secret)),
        lambda: npipe.Remote("alice", secret, port=0),
        lambda: npipe.Remote("alice", secret, auth="telepathy"),  # type: ignore[arg-type]
        lambda: npipe.remote.configure(HOST, username="alice", password=secret, port=0),
    ):
        with pytest.raises(npipe.PipeError) as raised:
            case()
        text = io.StringIO()
        error: BaseException | None = raised.value
        assert error is not None
        frames = traceback.TracebackException.from_exception(error, capture_locals=True)
        print("".join(line for line in frames.format() if "test_client.py" not in line), file=text)
        seen += [repr(error), str(error), text.getvalue()]
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        with pytest.raises(TypeError):
            pickle.dumps(who, protocol)
    assert copy.deepcopy(who) is copy.copy(who) is who
    seen += [record.getMessage() for record in caplog.records] + list(capsys.readouterr())
    assert not [text for text in seen if secret in text]


# ---- Connections


def test_pipes_of_one_user_share_a_connection_that_goes_when_idle(
    smbd: PrivateSmbd, short: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "IDLE", 0.3)
    with Proxy(smbd.port) as proxy, npipe.serve(short, bytes.upper, remote="samba", allow="authenticated"):
        with ThreadPoolExecutor(8) as threads:
            pipes = list(threads.map(lambda _: npipe.connect(there(short), remote=remote(proxy.port)), range(8)))
        assert [pipe.transact(b"x", timeout=20) for pipe in pipes] == [b"X"] * 8
        assert proxy.connections == 1
        with npipe.connect(there(short), remote=remote(proxy.port, "bob")):
            assert proxy.connections == 2
        assert proxy.ended.acquire(timeout=5)  # bob's
        for pipe in pipes:
            pipe.close()
        assert proxy.ended.acquire(timeout=5)
        assert npipe.call(there(short), b"again", remote=remote(proxy.port)) == b"AGAIN"
        assert proxy.connections == 3


def test_a_lost_connection_ends_its_pipes_and_no_other(smbd: PrivateSmbd, short: str) -> None:
    with (
        Proxy(smbd.port) as proxy,
        Both(proxy.port, short) as (client, _),
        Both(smbd.port, short + "b") as (other, far),
    ):
        reader = blocked(client, client.recv)
        proxy.cut()
        h.has_code(error_of(reader), 64)
        for call in (client.recv, lambda: client.send(b"x"), lambda: client.transact(b"x")):
            assert h.code_of(call) == 64
        far.send(b"still here")
        assert other.recv(timeout=20) == b"still here"
    with npipe.serve(short, bytes.upper, remote="samba", allow="authenticated"), Proxy(smbd.port) as proxy:
        assert npipe.call(there(short), b"one", remote=remote(proxy.port)) == b"ONE"
        proxy.cut()
        assert npipe.call(there(short), b"two", remote=remote(proxy.port)) == b"TWO"


def test_smbd_is_killed(own_smbd: Callable[..., PrivateSmbd], short: str) -> None:
    smbd = own_smbd()
    with Both(smbd.port, short) as (client, server):
        reader = blocked(client, client.recv)
        assert smbd.pid is not None
        os.killpg(smbd.pid, signal.SIGKILL)
        h.has_code(error_of(reader), 64)
        assert h.code_of(lambda: server.recv(timeout=20)) == 109
    assert h.code_of(lambda: npipe.connect(there(short), remote=remote(smbd.port))) == 53


def test_a_host_that_never_answers(short: str) -> None:
    with Proxy(None) as proxy:
        for timeout in (0.1, 0.5):
            begun = time.monotonic()
            with pytest.raises(npipe.PipeTimeoutError, match="has not answered"):
                npipe.connect(there(short), remote=remote(proxy.port), timeout=timeout)
            assert timeout <= time.monotonic() - begun < timeout + EXACT
            assert proxy.ended.acquire(timeout=5)  # nothing is left of it
        with pytest.raises(npipe.PipeBusyError):
            npipe.call(there(short), b"x", remote=remote(proxy.port), timeout=0.1)


def test_what_is_no_smb_server(short: str) -> None:
    with socket.create_server((HOST, 0)) as listener:

        def greet() -> None:
            while True:
                try:
                    client, _ = listener.accept()
                except OSError:
                    return
                with client:
                    client.recv(1000)
                    client.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        greeter = h.started(greet)
        with pytest.raises(npipe.PipeError) as raised:
            npipe.connect(there(short), remote=remote(listener.getsockname()[1]), timeout=5)
        assert raised.value.winerror in (13, 53)
        listener.shutdown(socket.SHUT_RDWR)
        greeter.result()
    assert h.code_of(lambda: npipe.connect(r"\\no-such-host.invalid\pipe\x", remote=remote(445))) == 53


def test_an_open_that_was_given_up_is_closed_when_its_answer_comes(smbd: PrivateSmbd, short: str) -> None:
    with Proxy(smbd.port) as proxy, listening(short) as listener:
        with npipe.connect(there(short), remote=remote(proxy.port)), listener.accept(20):
            proxy.hold("down")
            begun = time.monotonic()
            assert h.code_of(lambda: npipe.connect(there(short), remote=remote(proxy.port), timeout=0.3)) == 121
            assert 0.3 <= time.monotonic() - begun < 0.3 + EXACT
            with listener.accept(20) as unwanted:
                proxy.let_go("down")
                assert h.code_of(lambda: unwanted.recv(timeout=20)) == 109


def test_calls_over_a_link_that_stands_still(smbd: PrivateSmbd, short: str) -> None:
    with Proxy(smbd.port) as proxy, Both(proxy.port, short) as (client, server):
        for way in ("up", "down"):
            proxy.hold(way)
            for call in (lambda: client.send(b"x", timeout=0.2), lambda: client.recv(timeout=0.2)):
                begun = time.monotonic()
                assert h.code_of(call) == 121
                assert 0.2 <= time.monotonic() - begun < 0.2 + EXACT
            proxy.let_go(way)
        assert [server.recv(timeout=20) for _ in range(2)] == [b"x"] * 2
        server.send(b"goes on")
        assert client.recv(timeout=20) == b"goes on"


def test_a_connection_without_room_holds_nobody_up(smbd: PrivateSmbd, short: str) -> None:
    message = bytes(65535)
    with Proxy(smbd.port) as proxy, Both(proxy.port, short) as (client, _):
        proxy.hold("up")
        begun = time.monotonic()
        calls = 0
        while time.monotonic() - begun < 30:
            started = time.monotonic()
            with pytest.raises(npipe.PipeTimeoutError) as raised:
                client.send(message, timeout=0.01)
            assert time.monotonic() - started < 0.01 + EXACT
            calls += 1
            if "nothing was sent" in str(raised.value):
                break
        assert "nothing was sent" in str(raised.value), calls
        started = time.monotonic()
        client.close(timeout=0)
        assert time.monotonic() - started < 1.0 + EXACT
        proxy.cut()


def test_what_was_changed_on_the_way_is_not_believed(smbd: PrivateSmbd, short: str) -> None:
    with Proxy(smbd.port) as proxy, Both(proxy.port, short) as (client, server):
        server.send(b"the truth")
        assert client.recv(timeout=20) == b"the truth"
        proxy.change = lambda data: data.replace(b"the truth", b"a big lie")
        server.send(b"the truth")
        assert h.code_of(lambda: client.recv(timeout=20)) == 64


def test_an_answer_that_is_not_signed_is_not_believed(smbd: PrivateSmbd, short: str) -> None:
    def unsigned(data: bytes) -> bytes:
        changed = bytearray(data.replace(b"the truth", b"a big lie"))
        if changed != data:
            changed[4 + 16] &= ~8  # the flag
            changed[4 + 48 : 4 + 64] = bytes(16)
        return bytes(changed)

    with Proxy(smbd.port) as proxy, Both(proxy.port, short) as (client, server):
        proxy.change = unsigned
        server.send(b"the truth")
        assert h.code_of(lambda: client.recv(timeout=20)) == 64


@pytest.mark.parametrize("encrypt", [False, True], ids=["signed", "encrypted"])
@pytest.mark.parametrize("command", [0, 1, 8], ids=["negotiate", "session-setup", "read"])
@pytest.mark.parametrize("flags", [1, 9], ids=["unsigned", "signed"])
def test_an_answer_that_was_made_on_the_way_is_not_believed(
    smbd: PrivateSmbd, short: str, encrypt: bool, command: int, flags: int
) -> None:
    lie = b"a big lie"
    body = struct.pack("<HBxIII", 17, 80, len(lie), 0, 0) + lie

    with Proxy(smbd.port) as proxy, Both(proxy.port, short, encrypt=encrypt) as (client, server):
        assert h.code_of(lambda: client.recv(timeout=0.05)) == 121  # a read is at the server
        number = client._file.pending.message["message_id"].get_value()
        session = client._file.link.session.session_id

        def forge(_: bytes) -> bytes:
            proxy.change = None
            header = (b"\xfeSMB", 64, 1, 0, command, 1, flags, 0, number, 0, 0, session, bytes(16))
            message = struct.pack("<4sHHIHHIIQIIQ16s", *header) + body
            return struct.pack(">I", len(message)) + message

        proxy.change = forge
        server.send(b"the truth")
        assert h.code_of(lambda: client.recv(timeout=20)) == 64


def test_sixty_four_clients_at_once(smbd: PrivateSmbd, short: str) -> None:
    def talk(number: int) -> None:
        source = random.Random(number)
        with npipe.connect(
            there(short), remote=remote(smbd.port, "alice" if number % 2 else "bob"), timeout=60
        ) as pipe:
            for _ in range(10):
                message = source.randbytes(source.randrange(1, 3000))
                assert pipe.transact(message, timeout=60) == message[::-1]

    with npipe.serve(short, lambda request: request[::-1], remote="samba", allow="authenticated"):
        with ThreadPoolExecutor(64) as threads:
            for done in [threads.submit(talk, number) for number in range(64)]:
                done.result(60)


def test_more_calls_than_there_are_credits(smbd: PrivateSmbd, short: str) -> None:
    with npipe.serve(short, bytes.upper, remote="samba", allow="authenticated"):
        with ThreadPoolExecutor(150) as threads:
            pipes = list(
                threads.map(lambda _: npipe.connect(there(short), remote=remote(smbd.port), timeout=60), range(150))
            )
            answers = list(threads.map(lambda pipe: pipe.transact(b"x" * 1000, timeout=60), pipes))
            for pipe in pipes:
                pipe.close()
        assert answers == [b"X" * 1000] * 150


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks are POSIX's")
def test_a_forked_child_has_no_pipes_and_disturbs_none(smbd: PrivateSmbd, short: str) -> None:
    with npipe.serve(short, bytes.upper, remote="samba", allow="authenticated"):
        with npipe.connect(there(short), remote=remote(smbd.port)) as pipe:
            assert pipe.transact(b"before") == b"BEFORE"
            child = os.fork()
            if not child:
                code = 1
                try:
                    closed = h.code_of(lambda: pipe.recv(timeout=0)) == 6 and pipe.closed
                    own = npipe.call(there(short), b"child", remote=remote(smbd.port), timeout=20)
                    code = 0 if closed and own == b"CHILD" else 2
                finally:
                    os._exit(code)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
            assert pipe.transact(b"after") == b"AFTER"


def test_a_signal_loses_no_message(smbd: PrivateSmbd, short: str) -> None:
    class InterruptError(Exception):
        pass

    def interrupt(*_: object) -> None:
        raise InterruptError

    if sys.platform == "win32":
        pytest.skip("signals of this kind are POSIX's")
    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        with Both(smbd.port, short) as (client, server):
            for number in range(20):
                signal.setitimer(signal.ITIMER_REAL, 0.01)
                with pytest.raises(InterruptError):
                    client.recv(timeout=20)
                server.send(b"%d" % number)
                assert client.recv(timeout=20) == b"%d" % number
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


# ---- Where it is told


def test_a_host_is_configured_or_the_environment_tells(
    smbd: PrivateSmbd, short: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    with npipe.serve(short, bytes.upper, remote="samba", allow="authenticated"):
        npipe.remote.configure(HOST, remote(smbd.port))
        try:
            assert npipe.call(there(short), b"configured") == b"CONFIGURED"
        finally:
            npipe.remote.forget(HOST)
        assert h.code_of(lambda: npipe.call(there(short), b"x")) == 50
        secret = tmp_path / "secret"
        secret.write_text(f"{PASSWORD}\n")
        for name, value in (("USERNAME", "alice"), ("PASSWORD_FILE", str(secret)), ("PORT", str(smbd.port))):
            monkeypatch.setenv(f"NPIPE_REMOTE_{name}", value)
        assert npipe.call(there(short), b"environment") == b"ENVIRONMENT"
        with npipe.Pool(there(short), size=2) as pool:
            assert [pool.call(b"pool") for _ in range(3)] == [b"POOL"] * 3
