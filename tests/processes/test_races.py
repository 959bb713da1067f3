"""Real processes and threads at full speed: nothing is lost, doubled, torn or out of order. NPIPE_LONG=1 for longer."""

from __future__ import annotations

import os
import random
import struct
import threading
import time
import zlib
from typing import TYPE_CHECKING, Any

import pytest

from npipe.errors import PipeError
from tests import helpers as h

if TYPE_CHECKING:
    from collections.abc import Callable

LONG = bool(os.environ.get("NPIPE_LONG"))
MESSAGES = 1_000_000 if LONG else 100_000
SECONDS = 60.0 if LONG else 3.0
LIMIT = 900 if LONG else 50
HEADER = struct.Struct("<IQI")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(4 * LIMIT)]

_EXCHANGE = r'''
import os, random, struct, sys, threading, zlib

HEADER = struct.Struct("<IQI")
POOL = random.Random(7).randbytes(1 << 20)

def size(rng):
    draw = rng.random()
    if draw < 0.95:
        return rng.randrange(0, 200)
    if draw < 0.998:
        return rng.randrange(0, 20_000)
    return rng.randrange(0, 300 * 1024)

def message(rng, number):
    n = size(rng)
    if n < HEADER.size and number % 10 == 0:
        return b""
    start = rng.randrange(0, len(POOL) - n)
    payload = POOL[start:start + n]
    return HEADER.pack(number & 0xFFFFFFFF, number, zlib.crc32(payload)) + payload

def exchange(pipe, count, out_seed, in_seed, timeout):
    """Sends and receives `count` messages; both sides know what must come."""
    errors = []
    def sending():
        try:
            rng = random.Random(out_seed)
            for number in range(count):
                pipe.write_file(message(rng, number), timeout)
        except BaseException as error:
            errors.append(f"sending {number}: {error!r}")
    def receiving():
        try:
            rng = random.Random(in_seed)
            for number in range(count):
                expected = message(rng, number)
                got = pipe.recv(timeout=timeout)
                assert got == expected, f"message {number}: {got[:24]!r}, {len(got)} bytes of {len(expected)}"
        except BaseException as error:
            errors.append(f"receiving {number}: {error!r}")
    threads = [threading.Thread(target=sending, daemon=True), threading.Thread(target=receiving, daemon=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return errors
'''

_CLIENT = (
    _EXCHANGE
    + r"""
from npipe import binding
from npipe.names import parse_name
n = parse_name(sys.argv[1])
place = (os.environ["NPIPE_ROOT"], n.folder, n.display, n.path)
class Pipe(binding.Handle):
    def recv(self, timeout):
        return binding.MessageEnd(self).recv(timeout=timeout)

pipe = Pipe.open(*place, access=15, hold=False, verify_owner=True, timeout=None)
pipe.set_state(2)
errors = exchange(pipe, int(sys.argv[2]), 2, 1, float(sys.argv[3]))
print(errors or "fine", flush=True)
sys.stdin.readline()
"""
)


def _server(name: str, quota: int) -> h.MessageHandle:
    server = h.MessageHandle()
    server.adopt(h.create(name, quota=quota))
    return server


def _pair(name: str, quota: int) -> tuple[h.MessageHandle, h.MessageHandle]:
    ends = []
    for handle in h.connected(name, quota=quota):
        end = h.MessageHandle()
        end.adopt(handle)
        ends.append(end)
    return ends[0], ends[1]


@pytest.mark.parametrize("quota", [0, 10, 4096, 65536])
@pytest.mark.slow
def test_two_processes_exchange_messages_both_ways_at_once(name: str, quota: int, child: Callable[..., Any]) -> None:
    count = MESSAGES
    patience = LIMIT / 2
    namespace: dict[str, Any] = {}
    exec(compile(_EXCHANGE, "exchange", "exec"), namespace)
    server = _server(name, quota)
    other = child(_CLIENT, name, str(count), str(patience))
    assert server.connect(20) in (0, 535)
    here = h.Background(lambda: namespace["exchange"](server, count, 1, 2, patience))
    assert here.result(2 * LIMIT) == []
    assert other.line(LIMIT) == "fine"


@pytest.mark.parametrize("quota", [0, 100, 65536])
@pytest.mark.parametrize("receivers", [2, 5])
def test_of_several_threads_that_receive_each_message_reaches_exactly_one(
    name: str, receivers: int, quota: int
) -> None:
    server, client = _pair(name, quota)
    count = 50_000 if LONG else 3_000
    rng = random.Random(3)
    sizes = [rng.choice([0, 0, 10, 50, 200, 5_000, 100_000 if i % 50 == 0 else 1]) for i in range(count)]

    def receive() -> list[int]:
        numbers = []
        try:
            while True:
                data = client.recv(timeout=h.DEADLINE * 2)
                number, length, check = HEADER.unpack_from(data)
                assert len(data) == HEADER.size + length
                assert check == zlib.crc32(data[HEADER.size :])
                numbers.append(number)
        except PipeError as error:
            h.has_code(error, 109)
        return numbers

    threads = [h.Background(receive) for _ in range(receivers)]
    for number, size in enumerate(sizes):
        payload = bytes([number & 255]) * size
        server.send(HEADER.pack(number, size, zlib.crc32(payload)) + payload, timeout=h.DEADLINE * 2)
    server.flush_buffers(h.DEADLINE)
    server.close_handle()
    got = [thread.result(LIMIT) for thread in threads]
    assert sorted(number for numbers in got for number in numbers) == list(range(count))
    for numbers in got:
        assert numbers == sorted(numbers)


@pytest.mark.parametrize("quota", [0, 100, 65536])
@pytest.mark.parametrize("senders", [2, 5])
def test_messages_of_several_threads_arrive_whole_and_in_each_threads_order(
    name: str, senders: int, quota: int
) -> None:
    server, client = _pair(name, quota)
    count = 20_000 if LONG else 1_500

    def send(who: int) -> None:
        rng = random.Random(who)
        for number in range(count):
            size = rng.choice([0, 10, 50, 200, 5_000, 100_000 if number % 100 == 0 else 1])
            server.send(HEADER.pack(number, size, who) + bytes([who]) * size, timeout=h.DEADLINE * 2)

    threads = [h.started(send, who) for who in range(senders)]
    following = [0] * senders
    for _ in range(count * senders):
        data = client.recv(timeout=h.DEADLINE * 2)
        number, size, who = HEADER.unpack_from(data)
        assert data[HEADER.size :] == bytes([who]) * size
        assert number == following[who]
        following[who] += 1
    for thread in threads:
        thread.result(LIMIT)
    assert client.peek_pipe() == (b"", 0, 0)


def _hammer(name: str, *, quota: int, sizes: list[int], byte_reads: bool = False) -> None:
    """Both ends with tiny random time-outs: what was sent arrives once and in order, what timed out never."""
    server, client = _pair(name, quota)
    over = threading.Event()
    sent: list[int] = []
    partly: set[int] = set()  # timed out; a part may have been read
    until = time.monotonic() + SECONDS

    def send() -> None:
        rng = random.Random(quota)
        number = 0
        try:
            while time.monotonic() < until:
                size = rng.choice(sizes)
                number += 1
                data = HEADER.pack(number, size, 0) + bytes([number & 255]) * size
                try:
                    server.send(data, timeout=rng.choice([0, 0, 1e-5, 1e-4, 1e-3, 5e-3]))
                    sent.append(number)
                except PipeError as error:
                    h.has_code(error, 121)
                    partly.add(number)
        finally:
            over.set()

    sending = h.Background(send)
    rng = random.Random(quota + 1)
    got: list[int] = []
    while True:
        ended = over.is_set()
        try:
            data = client.recv(timeout=rng.choice([0, 1e-5, 1e-4, 1e-3, 5e-3]) if not ended else 0.3)
        except PipeError as error:
            h.has_code(error, 121)
            if ended:
                break
            continue
        number, size, _zero = HEADER.unpack_from(data)
        assert len(data) == HEADER.size + size, f"message {number} is torn: {len(data)} of {HEADER.size + size}"
        assert data[HEADER.size :] == bytes([number & 255]) * size
        got.append(number)
    sending.result(LIMIT)
    assert not set(got) & partly, f"timed out, but arrived: {sorted(set(got) & partly)[:10]}"
    assert got == sent, f"lost {sorted(set(sent) - set(got))[:10]}, doubled or out of order otherwise"
    assert sent, "nothing at all went through"
    assert partly, "nothing timed out"
    assert client.peek_pipe() == (b"", 0, 0)


@pytest.mark.parametrize("quota", [0, 10, 4096, 65536])
def test_time_outs_of_small_messages_lose_and_double_nothing(name: str, quota: int) -> None:
    _hammer(name, quota=quota, sizes=[0, 1, 10, 100, 1000, 5000])


@pytest.mark.parametrize("quota", [0, 65536])
def test_time_outs_of_messages_larger_than_the_ring_lose_and_double_nothing(name: str, quota: int) -> None:
    _hammer(name, quota=quota, sizes=[0, 10, 1000, 300 * 1024, 1 << 20, 4 << 20])


@pytest.mark.parametrize("size", [300 * 1024, 4 << 20])
def test_a_reader_that_times_out_in_mid_message_gets_it_whole_in_the_end(name: str, size: int) -> None:
    server, client = _pair(name, 10)
    data = random.Random(size).randbytes(size)
    rng = random.Random(1)
    for _ in range(20 if LONG else 3):
        sending = h.Background(lambda: server.send(data, timeout=h.DEADLINE * 4))
        outs = 0
        while True:
            try:
                got = client.recv(timeout=rng.choice([0, 1e-5, 1e-4, 3e-4]) if outs < 200 else h.DEADLINE)
            except PipeError as error:
                h.has_code(error, 121)
                outs += 1
                assert outs < 300, "it never comes"
            else:
                break
        assert got == data
        sending.result()


@pytest.mark.parametrize("type", [h.BYTE, h.MESSAGE])
def test_reads_of_parts_with_time_outs_lose_no_byte(name: str, type: int) -> None:
    server, client = h.connected(name, type=type, mode=0, quota=1000)
    total = (100 << 20) if LONG else (4 << 20)
    pool = random.Random(5).randbytes(1 << 20)
    sent = zlib.crc32(b"")
    rng = random.Random(6)

    def send() -> int:
        check, left = sent, total
        own = random.Random(7)
        while left:
            size = min(left, own.choice([1, 10, 900, 2_000, 70_000, 300_000]))
            start = own.randrange(0, len(pool) - size)
            h.write(server, pool[start : start + size], h.DEADLINE * 2)
            check = zlib.crc32(pool[start : start + size], check)
            left -= size
        return check

    sending = h.Background(send)
    received, check = 0, sent
    silence = time.monotonic() + 2 * h.DEADLINE
    while received < total:
        try:
            _code, data = h.read(client, rng.choice([1, 100, 5_000, 1 << 20]), rng.choice([0, 1e-4, 1e-2]))
        except PipeError as error:
            h.has_code(error, 121)
            assert time.monotonic() < silence, f"{total - received} bytes never came"
            continue
        silence = time.monotonic() + 2 * h.DEADLINE
        received += len(data)
        check = zlib.crc32(data, check)
    assert sending.result() == check


def test_clients_that_come_and_go_meet_servers_that_do_the_same(name: str) -> None:
    until = time.monotonic() + SECONDS / 2
    served = [0]

    def serve() -> None:
        server = h.create(name, quota=10)
        while time.monotonic() < until:
            try:
                server.connect(0.1)
                _code, data = h.read(server)
                h.write(server, data[::-1])
                server.flush_buffers(1)
                served[0] += 1
            except PipeError as error:
                h.has_code(error, *(109, 121, 232))
            if h.code_of(server.disconnect) not in (0, 233):
                raise AssertionError("disconnect failed")
        server.close_handle()

    def ask(seed: int) -> int:
        rng = random.Random(seed)
        answers = 0
        while time.monotonic() < until:
            try:
                client = h.Handle.open(*h.place(name), access=15, hold=True, verify_owner=True, timeout=0.2)
            except PipeError as error:
                h.has_code(error, *(2, 121))
                continue
            try:
                data = rng.randbytes(rng.choice([1, 5, 100]))
                h.write(client, data, 1)
                if rng.random() < 0.7:
                    assert h.read(client, 1000, 1) == (0, data[::-1])
                    answers += 1
            except PipeError as error:
                h.has_code(error, *(109, 121, 232, 233))
            finally:
                client.close_handle()
        return answers

    servers = [h.Background(serve) for _ in range(2)]
    clients = [h.started(ask, seed) for seed in range(3)]
    assert sum(client.result(LIMIT) for client in clients) > 0
    for server in servers:
        server.result(LIMIT)
