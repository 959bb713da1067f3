"""npipe.Pool: who gets which connection, what is sent how often, and that no answer reaches another caller."""

from __future__ import annotations

import contextlib
import copy
import os
import pickle
import random
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import npipe
from npipe.pooling import Claim, Loan, Slots
from tests.helpers import DEADLINE, Background, blocked, descriptors, fails, until
from tests.pools import EMPTIES, Servers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.conftest import Child


@pytest.fixture
def servers(child: Callable[..., Child], name: str, tmp_path: Path) -> Servers:
    return Servers(child, name, tmp_path / "requests")


def waits(pool: npipe.Pool[Any], call: Callable[[], Any], count: int = 1) -> Background[Any]:
    """Starts what has to wait for a connection of the pool, and returns when it does."""
    background = Background(call)
    until(lambda: pool.stats.waiting == count or not background.running)
    return background


def who(pool: npipe.Pool[Any]) -> bytes:
    """The number that the connection of the next call has at the server."""
    return pool.call(b"who", timeout=DEADLINE)


def number(_request: bytes, connection: npipe.Connection) -> bytes:
    return b"%d" % connection.number


# ---- Sharing


def test_many_threads_get_their_own_answers_over_a_few_connections(name: str) -> None:
    with npipe.serve(name, bytes.upper) as server, npipe.Pool(name, size=3) as pool:

        def ask(who: int) -> None:
            for turn in range(50):
                assert pool.call(b"request %d of %d" % (turn, who), timeout=30) == b"REQUEST %d OF %d" % (turn, who)

        for thread in [Background(lambda one=one: ask(one)) for one in range(12)]:  # type: ignore[misc]
            thread.result(30)
        assert server.stats.clients <= 3
        stats = pool.stats
        assert stats.answered == 600
        assert (stats.in_use, stats.waiting, stats.dropped, stats.repeated) == (0, 0, 0, 0)
        assert stats.idle == stats.connected == server.stats.clients
    assert pool.stats.idle == 0


def test_connections_are_made_when_they_are_needed_and_used_again(name: str) -> None:
    with npipe.Pool(name, 4) as pool:  # there is no server yet
        assert pool.stats == npipe.PoolStats(4, 0, 0, 0, 0, 0, 0, 0)
        with npipe.serve(name, number) as server:
            assert [who(pool) for _ in range(5)] == [b"1"] * 5
            with pool.connection() as first, pool.connection() as second:
                assert first.transact(b"who") == b"1"
                assert second.transact(b"who") == b"2"
                assert who(pool) == b"3"
                assert (pool.stats.in_use, pool.stats.idle) == (2, 1)
            assert server.stats.clients == 3
            assert (pool.stats.connected, pool.stats.idle, pool.stats.dropped) == (3, 3, 0)


def test_who_waits_longest_gets_the_next_connection(name: str) -> None:
    order: list[int] = []
    with npipe.serve(name, bytes.upper), npipe.Pool(name, size=1) as pool:

        def use(who: int) -> None:
            with pool.connection(timeout=DEADLINE):
                order.append(who)

        with pool.connection():
            waiters = [waits(pool, lambda one=one: use(one), one + 1) for one in range(8)]  # type: ignore[misc]
        for waiter in waiters:
            waiter.result()
    assert order == list(range(8))


def test_a_thread_that_holds_the_one_connection_and_asks_for_another_is_told_so(name: str) -> None:
    with npipe.serve(name, bytes.upper), npipe.Pool(name, size=1) as pool, pool.connection() as pipe:
        for use in (
            lambda timeout: pool.call(b"x", timeout=timeout),
            lambda timeout: pool.connection(timeout=timeout).__enter__(),
        ):
            for timeout in (0, 0.05):
                with pytest.raises(npipe.PipeTimeoutError, match="the pool's one connection is in use") as caught:
                    use(timeout)
                assert caught.value.winerror == 121
                assert caught.value.sent is False
        assert pipe.transact(b"still mine") == b"STILL MINE"
        assert pool.stats.waiting == 0


def test_the_error_says_how_many_connections_are_in_use(name: str) -> None:
    with npipe.serve(name, bytes.upper), npipe.Pool(name, size=2) as pool:
        with pool.connection(), pool.connection():
            with pytest.raises(npipe.PipeTimeoutError, match="all 2 connections of the pool are in use"):
                pool.call(b"x", timeout=0.01)
        assert pool.call(b"x") == b"X"


def test_one_time_out_is_for_the_turn_the_connection_and_the_answer(name: str) -> None:
    with npipe.listen(name, max_instances=1) as listener, npipe.Pool(name, size=2, timeout=0.05) as pool:
        with npipe.connect(name), listener.accept(DEADLINE):
            with pytest.raises(npipe.PipeTimeoutError) as caught:  # every instance is busy
                pool.call(b"x")
            assert caught.value.sent is False
        with pytest.raises(npipe.PipeTimeoutError, match="the request was sent") as caught:  # nobody answers
            pool.call(b"x")
        assert caught.value.sent is True
        assert "the answer reaches no other call" in str(caught.value)
        with pytest.raises(npipe.PipeBusyError) as busy:  # as of a connect that may not wait
            pool.call(b"x", timeout=0)
        assert busy.value.sent is False


# ---- Servers that go


def test_a_connection_whose_server_went_while_it_was_idle_is_replaced_in_silence(name: str, servers: Servers) -> None:
    server = servers.start()
    with npipe.Pool(name, size=2) as pool:
        with pool.connection() as pipe:
            pipe.transact(b"who")
            assert pool.call(b"echo both") == b"both"
        server.kill()
        servers.start()
        assert [pool.call(b"echo %d" % number) for number in range(4)] == [b"0", b"1", b"2", b"3"]
        with pool.connection() as one, pool.connection() as other:
            assert (one.transact(b"echo one"), other.transact(b"echo other")) == (b"one", b"other")
        assert (pool.stats.connected, pool.stats.dropped) == (4, 2)


def test_a_server_that_dies_with_a_request_is_an_error_and_the_request_is_not_sent_again(
    name: str, servers: Servers
) -> None:
    victim = servers.start()
    with npipe.Pool(name, size=2) as pool:
        call = Background(lambda: pool.call(b"hang", timeout=30))
        assert victim.line() == "hangs"
        other = servers.start()  # it could have gone on with this one
        victim.kill()
        with pytest.raises(npipe.PipeClosedError, match="retry=True sends it once more") as caught:
            call.result()
        assert caught.value.sent is True
        assert "whether it was carried out is not known" in str(caught.value)
        assert servers.asked(b"hang") == 1
        assert pool.call(b"echo on") == b"on"
        assert (pool.stats.in_use, pool.stats.repeated) == (0, 0)
        other.say("")


def test_with_retry_it_is_sent_once_more_and_not_oftener(name: str, servers: Servers) -> None:
    victims = [servers.start()]
    with npipe.Pool(name, size=2) as pool:
        call = Background(lambda: pool.call(b"hang", timeout=30, retry=True))
        assert victims[0].line() == "hangs"
        victims += [servers.start()]
        victims[0].kill()
        assert victims[1].line() == "hangs"
        last = servers.start()
        victims[1].kill()
        with pytest.raises(npipe.PipeClosedError, match="it was tried once more") as caught:
            call.result()
        assert caught.value.sent is True
        assert servers.asked(b"hang") == 2
        assert (pool.stats.repeated, pool.stats.dropped, pool.stats.in_use) == (1, 2, 0)
        last.say("")


def test_with_retry_the_second_server_s_answer_is_the_result(name: str, servers: Servers) -> None:
    first = servers.start()
    with npipe.Pool(name, wait_for_server=True) as pool:
        call = Background(lambda: pool.call(b"slow 600 answer", timeout=30, retry=True))
        until(lambda: pool.stats.in_use == 1 and servers._log.exists() and servers.asked(b"slow") == 1)
        first.kill()
        second = Background(servers.start)
        until(lambda: servers.asked(b"slow") == 2, 20)
        second.result(20).kill()
        with fails(109):
            call.result()
        assert servers.asked(b"slow") == 2


def test_with_retry_and_no_server_the_error_still_says_that_the_request_was_sent(name: str, servers: Servers) -> None:
    victim = servers.start()
    with npipe.Pool(name) as pool:
        call = Background(lambda: pool.call(b"hang", timeout=30, retry=True))
        assert victim.line() == "hangs"
        victim.kill()
        with pytest.raises(npipe.PipeNotFoundError, match="the request was sent before") as caught:
            call.result()
        assert caught.value.sent is True
        with pytest.raises(npipe.PipeNotFoundError) as caught:
            pool.call(b"echo x", retry=True)
        assert caught.value.sent is False


def test_with_wait_for_server_a_call_waits_for_the_restart(name: str, servers: Servers) -> None:
    with npipe.Pool(name, wait_for_server=True, timeout=30) as pool:
        for text in (b"first", b"second"):
            call = Background(lambda text=text: pool.call(b"echo " + text))  # type: ignore[misc]
            until(lambda: pool.stats.in_use == 1)  # its turn has come, and no server
            server = servers.start()
            assert call.result(20) == text
            server.kill()
        assert servers.asked(b"echo") == 2
        with pytest.raises(npipe.PipeTimeoutError, match="no server has come"):
            npipe.Pool(f"{name}-other", wait_for_server=True).call(b"x", timeout=0.05)


def test_a_server_that_closes_each_new_connection_is_an_error_and_no_loop(name: str) -> None:
    came = []
    with npipe.listen(name) as listener:

        def refuse() -> None:
            while True:
                try:
                    pipe = listener.accept(DEADLINE)
                except npipe.PipeClosedError:
                    return
                came.append(pipe)
                pipe.abort()

        accepting = Background(refuse)
        with npipe.Pool(name) as pool, pytest.raises(npipe.PipeClosedError) as caught:
            pool.call(b"x", timeout=DEADLINE)
        # They may have been closed before the request, or after.
        told = "whether it was carried out is not known" if caught.value.sent else "nothing was sent"
        assert told in str(caught.value)
        assert len(came) <= 2
        assert pool.stats.in_use == 0
    accepting.result()


def test_a_server_that_has_died_in_this_very_moment_is_noticed_before_a_request_is_sent(
    name: str, servers: Servers
) -> None:
    server = servers.start()
    with npipe.Pool(name, size=1) as pool:
        for turn in range(10):
            assert pool.call(b"echo %d" % turn) == b"%d" % turn
            after = servers.start()
            server.kill()
            assert pool.call(b"echo after") == b"after"
            server = after
        assert (pool.stats.connected, pool.stats.dropped) == (11, 10)


# ---- Late answers


def test_an_answer_that_comes_late_reaches_nobody(name: str) -> None:
    with npipe.listen(name) as listener, npipe.Pool(name, size=1) as pool:
        call = Background(lambda: pool.call(b"first", timeout=0.5))
        late = listener.accept(DEADLINE)
        assert late.recv(timeout=DEADLINE) == b"first"
        assert call.code() == 121
        with contextlib.suppress(npipe.PipeClosedError):
            late.send(b"answer to first")
        call = Background(lambda: pool.call(b"second", timeout=DEADLINE))
        with listener.accept(DEADLINE) as fresh:
            assert fresh.recv(timeout=DEADLINE) == b"second"
            fresh.send(b"answer to second")
            assert call.result() == b"answer to second"
        late.close()


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_callers_that_time_out_at_the_worst_moments_get_their_own_answers_or_none(
    name: str, servers: Servers, seed: int
) -> None:
    servers.start()
    late, answered = [], []

    def ask(pool: npipe.Pool[npipe.MessagePipe], who: int) -> None:
        choices = random.Random(seed * 1000 + who)
        for turn in range(200):
            text = b"%d of %d" % (turn, who)
            delay = choices.choice([0, 0, 0.001, 0.002, 0.004])
            timeout = choices.choice([0.0005, 0.001, 0.002, 0.004, 5])
            try:
                if choices.random() < 0.6:
                    answer = pool.call(b"slow %f %b" % (delay, text), timeout=timeout)
                else:
                    with pool.connection(timeout=5) as pipe:
                        pipe.send(b"slow %f %b" % (delay, text))
                        try:
                            answer = pipe.recv(timeout=timeout)
                        except npipe.PipeTimeoutError:  # and the block ends well: the pool has to know
                            late.append(text)
                            continue
            except npipe.PipeTimeoutError:
                late.append(text)
            else:
                assert answer == text
                answered.append(text)

    with npipe.Pool(name, size=2) as pool:
        for caller in [Background(lambda one=one: ask(pool, one)) for one in range(6)]:  # type: ignore[misc]
            caller.result(50)
        assert len(late) + len(answered) == 1200
        assert late
        assert answered
        assert (pool.stats.in_use, pool.stats.waiting) == (0, 0)


def test_what_the_server_writes_unasked_into_an_idle_connection_answers_nobody(name: str) -> None:
    with npipe.listen(name) as listener, npipe.Pool(name, size=1) as pool:

        def answer(text: bytes) -> npipe.MessagePipe:
            pipe = listener.accept(DEADLINE)
            pipe.send(text + pipe.recv(timeout=DEADLINE))
            return pipe

        for unasked in (b"news", b""):  # an empty message is one that peek does not show
            server = Background(lambda: answer(b"to "))
            assert pool.call(b"first", timeout=DEADLINE) == b"to first"
            pipe = server.result()
            pipe.send(unasked)
            server = Background(lambda: answer(b"to "))
            assert pool.call(b"second", timeout=DEADLINE) == b"to second"
            server.result().close()
            pipe.close()


@pytest.mark.parametrize("when", ["before it goes back", "when it is idle"])
def test_an_empty_message_that_nobody_has_read_reaches_no_other_block(
    name: str, child: Callable[..., Child], when: str
) -> None:
    server = child(EMPTIES, name)
    assert server.line() == "listens"

    def send_it() -> None:
        server.say("now")
        assert server.line() == "sent"

    with npipe.Pool(name, size=1) as pool:
        with pool.connection() as pipe:
            assert pipe.transact(b"more", timeout=DEADLINE) == b"1 more"
            if when == "before it goes back":
                send_it()
        if when == "when it is idle":
            send_it()
        with pool.connection() as pipe:
            pipe.send(b"mine")
            assert pipe.recv(timeout=DEADLINE) == b"2 mine"
        with pool.connection() as pipe:
            assert pipe.transact(b"again", timeout=DEADLINE) == b"2 again"


def test_an_answer_that_is_too_long_is_an_error_and_ends_the_connection(name: str, servers: Servers) -> None:
    servers.start()
    with npipe.Pool(name, size=1, max_message_size=1000) as pool:
        with pytest.raises(npipe.PipeMessageTooLargeError) as caught:
            pool.call(b"long 1001")
        assert caught.value.sent is True
        assert pool.call(b"long 1000") == bytes(1000)
        assert who(pool) == b"2"


# ---- Blocks


def keep_recv(pipe: npipe.MessagePipe) -> None:
    with pytest.raises(npipe.PipeTimeoutError):
        pipe.recv(timeout=0.001)


def read_a_part(pipe: npipe.MessagePipe) -> None:
    pipe.send(b"x" * 100)
    assert pipe.recv_into(bytearray(10), timeout=DEADLINE) == 10


def read_in_parts(pipe: npipe.MessagePipe) -> None:
    read_a_part(pipe)
    assert pipe.recv_into(bytearray(100), timeout=DEADLINE) == 90


def leave_unread(pipe: npipe.MessagePipe) -> None:
    pipe.transact(b"more")
    pipe.send(b"more")
    until(lambda: pipe.peek().available > 0)


def read_into_no_room(pipe: npipe.MessagePipe) -> None:
    pipe.send(b"one")
    pipe.send(b"silence")
    until(lambda: pipe.peek().available > 0)
    assert pipe.recv_into(bytearray()) == 0  # which is no answer
    assert pipe.recv() == b"one"


def leave_owed(pipe: npipe.MessagePipe) -> None:
    with pytest.raises(npipe.PipeTimeoutError):
        pipe.transact(b"silence", timeout=0.001)


NOT_AGAIN: dict[str, Callable[[npipe.MessagePipe], object]] = {
    "closed": lambda pipe: pipe.close(),
    "aborted": lambda pipe: pipe.abort(),
    "a read that timed out": keep_recv,
    "a message read in part": read_a_part,
    "something unread": leave_unread,
    "an answer owed": leave_owed,
    "a request without its answer": lambda pipe: pipe.send(b"silence"),
    "a read into no room, and a request without its answer": read_into_no_room,
}

AGAIN: dict[str, Callable[[npipe.MessagePipe], object]] = {
    "nothing done": lambda pipe: None,
    "transact": lambda pipe: pipe.transact(b"x", timeout=DEADLINE),
    "send and recv": lambda pipe: (pipe.send(b"x"), pipe.recv(timeout=DEADLINE)),
    "a message in its parts": read_in_parts,
    "another limit": lambda pipe: setattr(pipe, "max_message_size", 1),
}


def answer_but_silence(request: bytes, connection: npipe.Connection) -> bytes | None:
    return {b"silence": None, b"who": b"%d" % connection.number}.get(request, request)


@pytest.mark.parametrize("what", NOT_AGAIN)
def test_a_connection_that_nobody_can_be_sure_of_is_not_used_again(name: str, what: str) -> None:
    with npipe.serve(name, answer_but_silence) as server, npipe.Pool(name, size=1) as pool:
        with pool.connection() as pipe:
            assert pipe.transact(b"who") == b"1"
            NOT_AGAIN[what](pipe)
        assert who(pool) == b"2"
        until(lambda: server.clients == 1)
        assert (pool.stats.dropped, pool.stats.in_use) == (1, 0)


@pytest.mark.parametrize("what", AGAIN)
def test_a_connection_with_nothing_left_over_is_used_again_as_new(name: str, what: str) -> None:
    with npipe.serve(name, answer_but_silence), npipe.Pool(name, size=1) as pool:
        with pool.connection() as pipe:
            AGAIN[what](pipe)
        assert who(pool) == b"1"
        with pool.connection() as pipe:
            assert pipe.max_message_size == 2**32 - 1
        assert pool.stats.dropped == 0


def test_a_block_that_raises_ends_its_connection(name: str) -> None:
    with npipe.serve(name, number), npipe.Pool(name, size=1) as pool:
        with pytest.raises(ZeroDivisionError), pool.connection() as pipe:
            assert pipe.transact(b"who") == b"1"
            1 / 0  # noqa: B018
        assert who(pool) == b"2"


def test_a_pipe_that_was_given_back_is_closed_for_whoever_keeps_it(name: str) -> None:
    with npipe.serve(name, number), npipe.Pool(name, size=1) as pool:
        with pool.connection() as kept:
            assert isinstance(kept, npipe.MessagePipe)
            assert kept.name == name
            assert not kept.closed
            assert kept.info.type == "message"
            assert kept.peer.pid == os.getpid()
            assert "open" in repr(kept)
        assert kept.closed
        assert "closed" in repr(kept)
        for use in (kept.recv, kept.peek, lambda: kept.send(b"x"), lambda: kept.transact(b"x"), lambda: kept.info):
            with pytest.raises(npipe.PipeClosedError, match="given back to its pool") as caught:
                use()
            assert caught.value.winerror == 6
        kept.close()
        kept.abort()
        assert who(pool) == b"1"


def test_a_call_that_still_runs_in_another_thread_takes_the_connection_with_it(name: str) -> None:
    with npipe.listen(name) as listener, npipe.Pool(name, size=1) as pool:
        with pool.connection() as pipe:
            server = listener.accept(DEADLINE)
            reader = blocked(lambda: pipe.recv())
        assert reader.code() == 109
        assert pool.stats.dropped == 1
        server.close()


def test_byte_pipes_are_lent_and_have_no_calls(name: str) -> None:
    with npipe.serve(name, bytes.upper, mode="byte"), npipe.Pool(name, size=1, mode="byte") as pool:
        with pytest.raises(npipe.PipeModeError, match='make the pool with mode="message"'):
            pool.call(b"x")
        for _ in range(2):
            with pool.connection() as pipe:
                assert isinstance(pipe, npipe.StreamPipe)
                assert pipe.write(b"abc") == 3
                assert pipe.read(3, timeout=DEADLINE) == b"ABC"
                with pipe.makefile("rw") as file:
                    file.write("line\n")
                    file.flush()
                    assert file.readline() == "LINE\n"
        assert (pool.stats.connected, pool.stats.dropped) == (1, 0)
        with pool.connection() as pipe:
            pipe.write(b"abcdef")
            assert pipe.read(1, timeout=DEADLINE) == b"A"
            until(lambda: pipe.peek().available == 5)
        assert pool.stats.dropped == 1


def test_pipes_of_one_direction_are_lent_and_have_no_calls(name: str) -> None:
    with npipe.listen(name, access="inbound") as listener, npipe.Pool(name, size=1, access="write") as pool:
        with pytest.raises(npipe.PipeAccessError, match='make the pool with access="duplex"'):
            pool.call(b"x")
        for turn in range(3):
            with pool.connection() as pipe:
                pipe.send(b"%d" % turn)
        server = listener.accept(DEADLINE)
        assert [server.recv(timeout=DEADLINE) for _ in range(3)] == [b"0", b"1", b"2"]
        assert (pool.stats.connected, pool.stats.dropped) == (1, 0)
        server.close()


# ---- Arguments, ends, looks


def test_arguments_are_checked_before_anything_else(name: str) -> None:
    for size in (0, -1, 65536):
        with fails(87):
            npipe.Pool(name, size)
    for wrong in (True, 1.5, "4", None):
        with pytest.raises((TypeError, ValueError)):
            npipe.Pool(name, wrong)  # type: ignore[arg-type]
    make: Any = npipe.Pool
    for options, code in (
        ({"mode": "text"}, 87),
        ({"access": "all"}, 87),
        ({"timeout": -1}, 87),
        ({"max_message_size": -1}, 87),
    ):
        with fails(code):
            make(name, **options)
    with fails(123):
        npipe.Pool("a/b")
    with fails(87):
        npipe.Pool(name, remote=npipe.Remote("alice"))  # a pipe of this machine
    with pytest.raises(TypeError, match="time_out"):
        make(name, time_out=1)
    for option in ("verify_owner", "wait_for_server"):
        with pytest.raises(TypeError, match=f"{option} is True or False"):
            make(name, **{option: "no"})
    with npipe.Pool(name) as pool:  # without a server: nothing comes so far
        with fails(87):
            pool.call(b"x", timeout=-1)
        with fails(87):
            pool.connection(timeout=-1)
        with pytest.raises(TypeError):
            pool.call(b"x", timeout="soon")  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="encode the text"):
            pool.call("text")  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="retry is True or False"):
            pool.call(b"x", retry="yes")  # type: ignore[arg-type]
        with pytest.raises(BufferError, match="side by side"):
            pool.call(memoryview(b"abcd")[::2])
        assert pool.stats.connected == 0
    with fails(87):
        pool.call(b"x", timeout=-1)


def test_close_ends_those_who_wait_and_the_idle_and_the_others_when_they_come_back(name: str) -> None:
    with npipe.serve(name, bytes.upper) as server:
        pool = npipe.Pool(name, size=2)
        with pool.connection() as pipe:
            pool.call(b"x")
            with pool.connection():
                waiter = waits(pool, lambda: pool.call(b"x", timeout=30))
                pool.close()
                with pytest.raises(npipe.PipeClosedError, match="the pool was closed in this process") as caught:
                    waiter.result()
                assert (caught.value.winerror, caught.value.sent) == (6, False)
            until(lambda: server.clients == 1)
            assert pipe.transact(b"still mine") == b"STILL MINE"
            assert pool.closed
            pool.close()
        until(lambda: server.clients == 0)
        for use in (lambda: pool.call(b"x"), lambda: pool.connection().__enter__()):
            with pytest.raises(npipe.PipeClosedError, match="make a new one"):
                use()
        assert (pool.stats.idle, pool.stats.in_use, pool.stats.waiting) == (0, 0, 0)


def test_a_pool_that_is_forgotten_leaves_nothing(name: str) -> None:
    with npipe.serve(name, bytes.upper) as server:
        npipe.call(name, b"warm up")
        until(lambda: server.clients == 0)
        before = descriptors()
        for _ in range(10):
            npipe.Pool(name).call(b"x")
        until(lambda: server.clients == 0)
        until(lambda: descriptors() <= before)


def test_what_one_sees_of_a_pool(name: str) -> None:
    with npipe.serve(name, bytes.upper):
        with npipe.Pool(name, size=2) as pool:
            assert (pool.name, pool.size, pool.closed) == (name, 2, False)
            pool.call(b"x")
            with pool.connection(), pool.connection():
                assert repr(pool) == f"<npipe.Pool r'{name}', 2 of 2 connections in use, 0 idle, 0 waiting>"
            assert repr(pool) == f"<npipe.Pool r'{name}', 0 of 2 connections in use, 2 idle, 0 waiting>"
        assert repr(pool) == f"<npipe.Pool r'{name}', closed, 0 in use>"
        for give in (pickle.dumps, copy.copy):
            with pytest.raises(TypeError, match="make a pool there"):
                give(pool)


# ---- Who has which


@settings(max_examples=200, deadline=None)
@given(
    st.integers(1, 4), st.lists(st.tuples(st.sampled_from(["ask", "end", "broken"]), st.integers(0, 7)), max_size=60)
)
def test_slots_go_to_those_who_wait_in_their_order_and_none_is_lost(size: int, steps: list[tuple[str, int]]) -> None:
    slots: Slots[str] = Slots(size)
    order: list[Claim[str]] = []  # those that have asked and not ended
    woken: list[Claim[str]] = []
    for step, which in steps:
        if step == "ask":
            claim: Claim[str] = Claim(lambda: woken.append(claim))  # noqa: B023
            order.append(claim)
            slots.ask(claim)
        elif order:
            claim = order.pop(which % len(order))
            if claim.slot is not None:
                claim.slot.pipe = "pipe" if step == "end" else None
            for _ in range(1 + which % 2):  # once more does no harm
                slots.give_back(claim)
            assert claim.slot is None
        have = [one for one in order if one.slot is not None]
        assert have == order[: min(size, len(order))]
        assert list(slots.waiting) == order[size:]
        assert len({id(one.slot) for one in have}) == len(have) == slots.in_use()
        assert all(one.slot is not None and one.slot.claim is one for one in have)
        assert len(slots._free) <= 2 * size + len(steps)
    for claim in order:
        slots.give_back(claim)
    last = [Claim[str](lambda: None) for _ in range(size)]
    for claim in last:
        slots.ask(claim)
    assert all(claim.slot is not None for claim in last)


def test_a_use_that_a_signal_ends_as_it_gets_its_slot_does_not_get_it_once_more() -> None:
    slots: Slots[str] = Slots(1)

    def interrupted() -> None:
        raise KeyboardInterrupt

    claim: Claim[str] = Claim(interrupted)
    with pytest.raises(KeyboardInterrupt):
        slots.ask(claim)
    claim.wake = lambda: None
    slots.give_back(claim)
    assert (claim.slot, slots.in_use(), list(slots.waiting)) == (None, 0, [])


def test_what_several_threads_of_a_block_send_and_receive_is_counted_in_full() -> None:
    loan: Loan[object] = Loan(object(), "name")
    rounds = 20_000
    started = threading.Barrier(4)

    def count(one: Callable[[], None]) -> None:
        started.wait(10)
        for _ in range(rounds):
            one()

    for _ in range(4 * rounds + 1):
        loan.has_sent()
    calls = [loan.has_sent, loan.has_sent, loan.has_received, loan.has_received]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=count, args=(one,)) for one in calls]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    finally:
        sys.setswitchinterval(interval)
    assert not any(thread.is_alive() for thread in threads)
    for _ in range(4 * rounds):
        loan.has_received()
    assert not loan.take_back(both_ways=True)  # one is owed still
    loan.has_received()
    assert loan.take_back(both_ways=True)


@pytest.mark.parametrize("size", [1, 3])
def test_a_storm_of_calls_blocks_and_restarts_loses_no_connection(name: str, size: int) -> None:
    over = threading.Event()
    with contextlib.ExitStack() as stack:
        pool = stack.enter_context(npipe.Pool(name, size=size, wait_for_server=True))

        def use(who: int) -> int:
            choices, count = random.Random(who), 0
            while not over.is_set():
                text = b"%d of %d" % (count, who)
                gone = (npipe.PipeClosedError, npipe.PipeTimeoutError)
                with contextlib.suppress(*gone, ZeroDivisionError):
                    if choices.random() < 0.7:
                        assert pool.call(text, timeout=choices.choice([0.001, 5])) == text.upper()
                    else:
                        with contextlib.suppress(npipe.PipeModeError), pool.connection(timeout=5) as pipe:
                            assert pipe.transact(text, timeout=5) == text.upper()
                            choices.random() < 0.5 or 1 / 0
                count += 1
            return count

        users = [Background(lambda one=one: use(one)) for one in range(6)]  # type: ignore[misc]
        end = time.monotonic() + 2
        while time.monotonic() < end:
            with npipe.serve(name, bytes.upper) as server:
                until(lambda: server.stats.answered > 20)
        with npipe.serve(name, bytes.upper):
            over.set()
            assert all(user.result(20) > 0 for user in users)
            assert (pool.stats.in_use, pool.stats.waiting) == (0, 0)
            with contextlib.ExitStack() as all_of_them:
                for _ in range(size):
                    pipe = all_of_them.enter_context(pool.connection(timeout=5))
                    assert pipe.transact(b"x", timeout=5) == b"X"


def test_an_abandoned_block_gives_its_connection_back(name: str) -> None:
    def take(pool: npipe.Pool[npipe.MessagePipe]) -> Iterator[npipe.MessagePipe]:
        with pool.connection() as pipe:
            yield pipe

    with npipe.serve(name, bytes.upper), npipe.Pool(name, size=1) as pool:
        block = take(pool)
        assert next(block).transact(b"x") == b"X"
        del block
        assert pool.call(b"y", timeout=DEADLINE) == b"Y"
