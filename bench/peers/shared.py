"""Others that move messages through shared memory: iceoryx2, MomentumX, and the standard library's own blocks.

The first two have no call that sleeps until a message is there and wakes at once: both sides ask again and again, which
is as quick as they get.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import importlib.metadata
import itertools
import os
import struct
from functools import partial
from itertools import repeat
from multiprocessing import connection, shared_memory
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.tasks import Channel, Ways

from .base import BACKLOG, Acceptor, Peer

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.tasks import InPlace

_SCENARIOS = frozenset({"roundtrip", "oneway", "tail", "views", "frames", "memory"})
_NUMBER = struct.Struct("<Q")
_write, _read = _NUMBER.pack_into, _NUMBER.unpack_from
_serial = itertools.count()


_TRIES = 4096  # between two looks at whether the other side is still there


class _Meeting:
    """Where a client and the server tell each other that their halves are made, and later that they have left."""

    def __init__(self, conn: Any) -> None:
        self._conn = conn

    def patient(self, ask: Callable[[], Any]) -> Callable[[], Any]:
        """Return a function that calls ``ask`` until it returns something.

        It raises EOFError when the other side has left.
        """
        left = self._conn.poll

        def wait() -> Any:
            while True:
                for _ in repeat(None, _TRIES):
                    if (found := ask()) is not None:
                        return found
                if left():
                    raise EOFError

        return wait

    def tell(self, what: object) -> None:
        self._conn.send(what)

    def hear(self) -> Any:
        return self._conn.recv()

    def close(self) -> None:
        self._conn.close()


class _Meetings:
    def __init__(self, listener: connection.Listener, make: Callable[[_Meeting], Channel]) -> None:
        self._listener = listener
        self._make = make

    def accept(self) -> Channel:
        return self._make(_Meeting(self._listener.accept()))


# ---- iceoryx2


class _IceoryxChannel:
    """Two services, one for each way, with one publisher and one subscriber each."""

    def __init__(self, peer: Iceoryx2, name: str, meeting: _Meeting, *, server: bool) -> None:
        iox2 = peer.library
        self._meeting = meeting
        there, back = peer.service(name + "-there"), peer.service(name + "-back")
        mine, other = (back, there) if server else (there, back)
        self._publisher = (
            mine.publisher_builder()
            .initial_max_slice_len(peer.slot)
            .backpressure_strategy(iox2.BackpressureStrategy.RetryUntilDelivered)
            .max_loaned_samples(1)
            .create()
        )
        self._subscriber = other.subscriber_builder().create()
        self._copying = peer.copying
        self.take = meeting.patient(self._subscriber.receive)
        self.loan = self._publisher.loan_slice_uninit

    def wake(self) -> None:
        """Have the server ask for messages."""
        self._meeting.tell("order")

    def sleep(self) -> None:
        """Wait for that: servers that ask all the time would take the processor from those who are being measured."""
        self._meeting.hear()

    def ways(self, size: int) -> Ways:
        loan, take_sample = self.loan, self.take
        move, string_at = ctypes.memmove, ctypes.string_at
        buffer = bytearray(size)
        address = ctypes.addressof((ctypes.c_char * size).from_buffer(buffer)) if size else 0

        def send(payload: Any) -> None:
            sample = loan(len(payload))
            move(sample.payload_ptr, payload, len(payload))
            sample.assume_init().send()

        def recv() -> bytes:
            sample = take_sample()
            data = string_at(sample.payload_ptr, sample.header.number_of_elements)
            sample.delete()
            return data

        def recv_into() -> None:
            sample = take_sample()
            move(address, sample.payload_ptr, min(size, sample.header.number_of_elements))
            sample.delete()

        return Ways(send, recv, recv_into, buffer)

    def in_place(self, size: int) -> InPlace:
        return _IceoryxCopies(self.ways(size), size) if self._copying else _Samples(self, size)

    def close(self) -> None:
        self._publisher.delete()
        self._subscriber.delete()
        self._meeting.close()


class _Samples:
    """Loaned samples, written and read where they lie."""

    def __init__(self, channel: _IceoryxChannel, size: int) -> None:
        loan, take_sample = channel.loan, channel.take
        end = size - 8

        def put(number: int) -> None:
            sample = loan(size)
            view = sample.payload().as_memory_view().cast("B")
            _write(view, 0, number)
            _write(view, end, number)
            sample.assume_init().send()

        def take() -> tuple[int, int, int]:
            sample = take_sample()
            view = sample.payload().as_memory_view().cast("B")
            found = len(view), _read(view)[0], _read(view, end)[0]
            sample.delete()
            return found

        def put_filled(fill: Callable[[memoryview], None]) -> None:
            sample = loan(size)
            fill(sample.payload().as_memory_view().cast("B"))
            sample.assume_init().send()

        def take_looked_at(look: Callable[[Any], int]) -> int:
            sample = take_sample()
            found = look(sample.payload().as_memory_view().cast("B"))
            sample.delete()
            return found

        self.put, self.take, self.put_filled, self.take_looked_at = put, take, put_filled, take_looked_at


class _IceoryxCopies:
    """A buffer of each side's own, copied into and out of samples."""

    def __init__(self, ways: Ways, size: int) -> None:
        out, end = bytearray(size), size - 8
        view = memoryview(out)
        source = (ctypes.c_char * size).from_buffer(out)
        into, send, recv_into = ways.buffer, ways.send, ways.recv_into
        assert into is not None
        assert recv_into is not None

        def put(number: int) -> None:
            _write(out, 0, number)
            _write(out, end, number)
            send(source)  # type: ignore[arg-type]

        def take() -> tuple[int, int, int]:
            recv_into()
            return size, _read(into)[0], _read(into, end)[0]

        def put_filled(fill: Callable[[memoryview], None]) -> None:
            fill(view)
            send(source)  # type: ignore[arg-type]

        def take_looked_at(look: Callable[[Any], int]) -> int:
            recv_into()
            return look(into)

        self.put, self.take, self.put_filled, self.take_looked_at = put, take, put_filled, take_looked_at


class Iceoryx2(Peer):
    """iceoryx2: publish and subscribe, nothing lost; copied into a loan and out of the sample, or in place."""

    name = "iceoryx2"
    module = "iceoryx2"
    scenarios = _SCENARIOS
    copying = False

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._node: Any = None

    @property
    def library(self) -> Any:
        """The module."""
        return importlib.import_module("iceoryx2")

    def version(self) -> str:
        """Import it; it says its version only to importlib.metadata."""
        super().version()
        return importlib.metadata.version("iceoryx2")

    def service(self, name: str) -> Any:
        """Open or create the service of one way."""
        iox2 = self.library
        if self._node is None:
            iox2.set_log_level(iox2.LogLevel.Error)
            config = iox2.config.default()
            config.global_cfg.prefix = iox2.FileName.new(self.folder.name.replace("-", "_") + "_")
            config.global_cfg.root_path = iox2.Path.new(str(self.folder / "iceoryx2"))
            builder = iox2.NodeBuilder.new().config(config)
            builder = builder.signal_handling_mode(iox2.SignalHandlingMode.Disabled)
            self._node = builder.create(iox2.ServiceType.Ipc)
        return (
            self._node.service_builder(iox2.ServiceName.new(name))
            .publish_subscribe(iox2.Slice[ctypes.c_uint8])
            .enable_safe_overflow(False)
            .history_size(0)
            .subscriber_max_buffer_size(4 if self.roomy else 16)
            .subscriber_max_borrowed_samples(1)
            .max_publishers(1)
            .max_subscribers(1)
            .open_or_create()
        )

    def listen(self, address: str, count: int) -> Acceptor:  # noqa: ARG002
        """Wait for clients that name their services."""

        def make(meeting: _Meeting) -> Channel:
            channel = _IceoryxChannel(self, meeting.hear(), meeting, server=True)
            meeting.tell("made")
            return channel

        listener = connection.Listener(str(self.folder / address), "AF_UNIX", backlog=BACKLOG)
        return _Meetings(listener, make)

    def connect(self, address: str, index: int) -> Channel:
        """Make two services, and wait until the server has its ends of them: what is published before is lost."""
        meeting = _Meeting(connection.Client(str(self.folder / address), "AF_UNIX"))
        name = f"{address}-{os.getpid()}-{index}-{next(_serial)}"
        channel = _IceoryxChannel(self, name, meeting, server=False)
        meeting.tell(name)
        meeting.hear()
        return channel


class Iceoryx2Copying(Iceoryx2):
    """The same; in place is a buffer of each side's own."""

    name = "iceoryx2, copying"
    scenarios = frozenset({"frames"})
    copying = True


# ---- MomentumX


class _MomentumChannel:
    """Two streams, one for each way."""

    def __init__(self, meeting: _Meeting, producer: Any, consumer: Any) -> None:
        self._meeting = meeting
        self._producer = producer
        self.lend = meeting.patient(partial(producer.next_to_send, False))
        self.take = meeting.patient(partial(consumer.receive, 1, False))

    def wake(self) -> None:
        """Have the server ask for messages."""
        self._meeting.tell("order")

    def sleep(self) -> None:
        """Wait for that: servers that ask all the time would take the processor from those who are being measured."""
        self._meeting.hear()

    def ways(self, size: int) -> Ways:
        lend, take = self.lend, self.take
        into = bytearray(size)

        def send(payload: bytes) -> None:
            buffer = lend()
            # Its own `write` and `read` take a third of a microsecond for each byte.
            memoryview(buffer)[: len(payload)] = payload
            buffer.send(len(payload))

        def recv() -> bytes:
            buffer = take()
            data = bytes(memoryview(buffer)[: buffer.data_size])
            buffer.release()
            return data

        def recv_into() -> None:
            buffer = take()
            into[:] = memoryview(buffer)[:size]
            buffer.release()

        return Ways(send, recv, recv_into, into)

    def in_place(self, size: int) -> InPlace:
        return _Buffers(self.lend, self.take, size)

    def close(self) -> None:
        self._producer.end()
        self._meeting.close()


class _Buffers:
    """Buffers of a stream, written and read where they lie."""

    def __init__(self, lend: Callable[[], Any], receive: Callable[[], Any], size: int) -> None:
        end = size - 8

        def put(number: int) -> None:
            buffer = lend()
            view = memoryview(buffer)
            _write(view, 0, number)
            _write(view, end, number)
            buffer.send(size)

        def take() -> tuple[int, int, int]:
            buffer = receive()
            view = memoryview(buffer)
            found = buffer.data_size, _read(view)[0], _read(view, end)[0]
            view.release()
            buffer.release()
            return found

        def put_filled(fill: Callable[[memoryview], None]) -> None:
            buffer = lend()
            fill(memoryview(buffer)[:size])
            buffer.send(size)

        def take_looked_at(look: Callable[[Any], int]) -> int:
            buffer = receive()
            found = look(memoryview(buffer)[:size])
            buffer.release()
            return found

        self.put, self.take, self.put_filled, self.take_looked_at = put, take, put_filled, take_looked_at


class MomentumX(Peer):
    """MomentumX: streams with a slot for each message, in step with the reader (`sync=True`)."""

    name = "momentumx"
    module = "momentumx"
    scenarios = _SCENARIOS

    def version(self) -> str:
        """Import it; it says its version only to importlib.metadata."""
        super().version()
        return importlib.metadata.version("momentumx")

    def _library(self) -> Any:
        mx = importlib.import_module("momentumx")
        mx.set_log_level(mx.LogLevel.ERROR)
        self.memory.mkdir(exist_ok=True)
        return mx

    def _producer(self, name: str) -> Any:
        size, count = max(self.slot, 4096), 4 if self.roomy else 16
        return self._library().Producer(name, size, count, sync=True, context=str(self.memory))

    def _consumer(self, name: str) -> Any:
        return self._library().Consumer(name, context=str(self.memory))

    @property
    def memory(self) -> Path:
        """The folder that has its memory as files; the session removes it."""
        return Path("/dev/shm") / self.folder.name

    def listen(self, address: str, count: int) -> Acceptor:  # noqa: ARG002
        """Wait for clients that name their streams."""

        def make(meeting: _Meeting) -> Channel:
            name = meeting.hear()
            producer, consumer = self._producer(name + "-back"), self._consumer(name + "-there")
            meeting.tell("made")
            meeting.hear()
            return _MomentumChannel(meeting, producer, consumer)

        listener = connection.Listener(str(self.folder / address), "AF_UNIX", backlog=BACKLOG)
        return _Meetings(listener, make)

    def connect(self, address: str, index: int) -> Channel:
        """Make the stream there, and wait for the other."""
        meeting = _Meeting(connection.Client(str(self.folder / address), "AF_UNIX"))
        name = f"{address}-{os.getpid()}-{index}-{next(_serial)}"
        producer = self._producer(name + "-there")
        meeting.tell(name)
        meeting.hear()
        consumer = self._consumer(name + "-back")
        meeting.tell("made")
        return _MomentumChannel(meeting, producer, consumer)


# ---- multiprocessing.shared_memory

_SLOTS = 4
_INDEX = struct.Struct("<BQ")  # which slot; bytes in it


class _Block:
    """One way: slots of a block of shared memory, whose numbers go to the reader and come back by a connection."""

    def __init__(self, name: str, slot: int, conn: Any, *, writes: bool) -> None:
        self._memory = shared_memory.SharedMemory(name)
        view = self._memory.buf
        assert view is not None
        self._views = [view[i * slot : (i + 1) * slot] for i in range(_SLOTS)]
        self._conn = conn
        self._free = list(range(_SLOTS)) if writes else []

    def lend(self) -> tuple[int, memoryview]:
        if not self._free:
            self._free.append(self._conn.recv_bytes()[0])
        index = self._free.pop()
        return index, self._views[index]

    def send(self, index: int, size: int) -> None:
        self._conn.send_bytes(_INDEX.pack(index, size))

    def receive(self) -> tuple[int, memoryview]:
        index, size = _INDEX.unpack(self._conn.recv_bytes())
        return index, self._views[index][:size]

    def release(self, index: int) -> None:
        with contextlib.suppress(BrokenPipeError):  # the writer has all that it wanted, and has closed
            self._conn.send_bytes(bytes((index,)))

    def close(self) -> None:
        self._conn.close()
        for view in self._views:
            view.release()
        self._memory.close()


class _BlocksChannel:
    def __init__(self, out: _Block, into: _Block) -> None:
        self._out, self._in = out, into

    def ways(self, size: int) -> Ways:
        out, into = self._out, self._in
        buffer = bytearray(size)

        def send(payload: bytes) -> None:
            index, view = out.lend()
            view[: len(payload)] = payload
            out.send(index, len(payload))

        def recv() -> bytes:
            index, view = into.receive()
            data = bytes(view)
            into.release(index)
            return data

        def recv_into() -> None:
            index, view = into.receive()
            buffer[:] = view
            into.release(index)

        return Ways(send, recv, recv_into, buffer)

    def in_place(self, size: int) -> InPlace:
        return _Slots(self._out, self._in, size)

    def close(self) -> None:
        self._out.close()
        self._in.close()


class _Slots:
    def __init__(self, out: _Block, into: _Block, size: int) -> None:
        end = size - 8

        def put(number: int) -> None:
            index, view = out.lend()
            _write(view, 0, number)
            _write(view, end, number)
            out.send(index, size)

        def take() -> tuple[int, int, int]:
            index, view = into.receive()
            found = len(view), _read(view)[0], _read(view, end)[0]
            into.release(index)
            return found

        def put_filled(fill: Callable[[memoryview], None]) -> None:
            index, view = out.lend()
            fill(view[:size])
            out.send(index, size)

        def take_looked_at(look: Callable[[Any], int]) -> int:
            index, view = into.receive()
            found = look(view)
            into.release(index)
            return found

        self.put, self.take, self.put_filled, self.take_looked_at = put, take, put_filled, take_looked_at


class _BlocksAcceptor:
    def __init__(self, listener: connection.Listener, slot: int) -> None:
        self._listener = listener
        self._slot = slot

    def accept(self) -> Channel:
        there, back = self._listener.accept(), self._listener.accept()
        blocks = [shared_memory.SharedMemory(create=True, size=_SLOTS * self._slot) for _ in range(2)]
        there.send([block.name for block in blocks])
        channel = _BlocksChannel(
            _Block(blocks[1].name, self._slot, back, writes=True),
            _Block(blocks[0].name, self._slot, there, writes=False),
        )
        there.recv()  # the client has both open
        for block in blocks:
            block.close()
            block.unlink()
        return channel


class SharedMemory(Peer):
    """multiprocessing.shared_memory: slots of a block, handed over and given back by a Connection."""

    name = "shared_memory"
    module = "multiprocessing.shared_memory"
    scenarios = _SCENARIOS

    def listen(self, address: str, count: int) -> Acceptor:  # noqa: ARG002
        """Listen for those who want blocks."""
        listener = connection.Listener(str(self.folder / address), "AF_UNIX", backlog=BACKLOG)
        return _BlocksAcceptor(listener, self.slot)

    def connect(self, address: str, index: int) -> Channel:  # noqa: ARG002
        """Open both blocks."""
        path = str(self.folder / address)
        there, back = connection.Client(path, "AF_UNIX"), connection.Client(path, "AF_UNIX")
        names = there.recv()
        channel = _BlocksChannel(
            _Block(names[0], self.slot, there, writes=True), _Block(names[1], self.slot, back, writes=False)
        )
        there.send("open")
        return channel
