"""What asyncio promises of transports, the same table for its own sockets and for pipes."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import logging
import socket
import warnings
from typing import Any

import pytest

import npipe
import npipe.aio
from tests.aio.helpers import turns
from tests.aio.transports import EAGER, LOOPS, Buffered, Data, Place, Recorder, Subclass, until

# ---- What is received


@pytest.mark.parametrize("kind", [Data, Subclass])
def test_data_the_end_and_the_loss_come_in_this_order(place: Place, kind: type[Data]) -> None:
    async def scenario(place: Place) -> None:
        server, client = kind(), kind()
        await place.pair(server, client)
        client.transport.write(b"hello, ")
        client.transport.writelines([b"wor", bytearray(b"ld"), memoryview(b"!")])
        client.transport.close()
        await until(lambda: server.is_lost and client.is_lost)
        assert client.events == ["connection_made", ("connection_lost", "NoneType")]
        assert server.events == [
            "connection_made",
            ("data_received", b"hello, world!"),
            "eof_received",
            ("connection_lost", "NoneType"),
        ]
        assert place.told == []

    place.run(scenario)


def test_a_buffered_protocol_is_fed(place: Place) -> None:
    async def scenario(place: Place) -> None:
        server, client = Buffered(), Data()
        await place.pair(server, client)
        client.transport.write(b"abcdef")
        client.transport.close()
        await until(lambda: server.is_lost)
        assert server.events == [
            "connection_made",
            "get_buffer",
            ("buffer_updated", b"abcd"),
            "get_buffer",
            ("buffer_updated", b"ef"),
            "get_buffer",
            "eof_received",
            ("connection_lost", "NoneType"),
        ]

    place.run(scenario)


@pytest.mark.parametrize("paused_in_callback", [True, False])
def test_protocols_of_both_kinds_may_take_turns(place: Place, paused_in_callback: bool) -> None:
    async def scenario(place: Place) -> None:
        second, client = Data(), Data()

        def hand_over(this: Recorder) -> None:
            if paused_in_callback:
                this.transport.pause_reading()
            this.transport.set_protocol(second)

        server = Buffered(buffer_updated=hand_over)
        await place.pair(server, client)
        transport = server.transport
        client.transport.write(b"abcdef")
        if paused_in_callback:
            await until(lambda: len(server.events) == 3)
            await turns(5)
            assert second.events == []
            transport.resume_reading()
        await until(lambda: second.received == b"ef")
        assert transport.get_protocol() is second
        assert server.events == ["connection_made", "get_buffer", ("buffer_updated", b"abcd")]
        transport.set_protocol(third := Buffered())
        client.transport.write(b"ghi")
        await until(lambda: third.events[-1:] == [("buffer_updated", b"ghi")])

    place.run(scenario)


def test_an_object_with_data_received_alone_is_a_protocol(name: str) -> None:
    class Least:
        def __init__(self) -> None:
            self.received = b""

        def data_received(self, data: bytes) -> None:
            self.received += data

    class LeastBuffered:
        def __init__(self) -> None:
            self.received, self.buffer = b"", bytearray(3)

        def get_buffer(self, sizehint: int) -> bytearray:
            return self.buffer

        def buffer_updated(self, count: int) -> None:
            self.received += self.buffer[:count]

    async def scenario(place: Place) -> None:
        for least in (Least(), LeastBuffered()):
            await place.serve(lambda least=least: least)  # type: ignore[misc]
            transport, _ = await place.connect(Data)
            transport.write(b"hello")
            await until(lambda least=least: least.received == b"hello")  # type: ignore[misc]
            transport.close()
            place.server.close()
            await turns(20)
        assert place.told == []

    Place("npipe", name).run(scenario)


def test_reading_pauses_and_goes_on(place: Place) -> None:
    async def scenario(place: Place) -> None:
        server, client = Data(), Data()
        await place.pair(server, client)
        transport = server.transport
        assert transport.is_reading()
        transport.pause_reading()
        transport.pause_reading()
        assert not transport.is_reading()
        client.transport.write(b"abc")
        client.transport.close()
        await until(lambda: client.is_lost)
        await turns(10)
        assert server.events == ["connection_made"]
        transport.resume_reading()
        transport.resume_reading()
        await until(lambda: server.is_lost)
        assert server.events[1:] == [("data_received", b"abc"), "eof_received", ("connection_lost", "NoneType")]
        assert not transport.is_reading()

    place.run(scenario)


def test_a_protocol_may_keep_the_connection_after_the_end(place: Place) -> None:
    async def scenario(place: Place) -> None:
        server, client = Data(eof_received=lambda _: True), Data()
        await place.pair(server, client)
        transport = server.transport
        client.transport.write_eof()
        await until(lambda: "eof_received" in server.events)
        transport.write(b"answer")
        await until(lambda: client.received == b"answer")
        client.transport.close()
        await until(lambda: client.is_lost)
        await turns(10)
        assert server.events == ["connection_made", "eof_received"]  # until it closes, or a write fails
        transport.close()
        await until(lambda: server.is_lost)
        assert server.events[2:] == [("connection_lost", "NoneType")]

    place.run(scenario)


def test_the_end_alone_can_be_written(place: Place) -> None:
    async def scenario(place: Place) -> None:
        server, client = Data(), Data()
        await place.pair(server, client)
        assert client.transport.can_write_eof()
        client.transport.write(bytes(1_000_000))
        client.transport.write_eof()
        client.transport.write_eof()
        with pytest.raises(RuntimeError, match="after write_eof"):
            client.transport.write(b"x")
        await until(lambda: server.is_lost and client.is_lost)
        assert server.received == bytes(1_000_000)
        assert server.events[-2:] == ["eof_received", ("connection_lost", "NoneType")]
        assert client.events[-2:] == ["eof_received", ("connection_lost", "NoneType")]

    place.run(scenario)


# ---- What is written


def test_writing_pauses_and_goes_on_at_the_limits(place: Place) -> None:
    async def scenario(place: Place) -> None:
        server, client = Data(), Data()
        await place.pair(server, client)
        transport = client.transport
        assert transport.get_write_buffer_limits() == (16384, 65536)
        transport.set_write_buffer_limits(high=1000)
        assert transport.get_write_buffer_limits() == (250, 1000)
        transport.set_write_buffer_limits(low=100)
        assert transport.get_write_buffer_limits() == (100, 400)
        with pytest.raises(ValueError, match="must be >="):
            transport.set_write_buffer_limits(high=1, low=2)
        server.transport.pause_reading()
        total = 0
        while "pause_writing" not in client.events:
            transport.write(bytes(100_000))
            total += 100_000
        assert transport.get_write_buffer_size() > 400
        assert client.events == ["connection_made", "pause_writing"]
        server.transport.resume_reading()
        await until(lambda: "resume_writing" in client.events)
        await until(lambda: len(server.received) == total)
        await until(lambda: transport.get_write_buffer_size() == 0)
        assert client.events == ["connection_made", "pause_writing", "resume_writing"]
        transport.set_write_buffer_limits(high=0)
        assert transport.get_write_buffer_limits() == (0, 0)

    place.run(scenario)


def test_what_is_buffered_is_written_before_a_close(place: Place) -> None:
    async def scenario(place: Place) -> None:
        server, client = Data(), Data()
        await place.pair(server, client)
        server.transport.pause_reading()
        if (connection := server.transport.get_extra_info("socket")) is not None:  # some systems would take all of it
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        numbered = b"".join(number.to_bytes(4, "little") for number in range(2_000_000))
        client.transport.write(numbered)
        client.transport.close()
        client.transport.close()
        assert client.transport.is_closing()
        await turns(10)
        assert not client.is_lost
        server.transport.resume_reading()
        await until(lambda: client.is_lost and server.is_lost)
        assert server.received == numbered
        assert client.events[-1] == ("connection_lost", "NoneType")

    place.run(scenario)


def test_what_resume_writing_writes_is_behind_what_was_written(place: Place) -> None:
    async def scenario(place: Place) -> None:
        server = Data()
        client = Data(resume_writing=lambda this: this.transport.write(b"last"))
        await place.pair(server, client)
        server.transport.pause_reading()
        count = 0
        while "pause_writing" not in client.events or count < 20:
            client.transport.write(b"%d," % count + bytes(100_000))
            count += 1
        server.transport.resume_reading()
        await until(lambda: server.received.endswith(b"last"))
        assert server.received.replace(b"\0", b"").decode() == "".join(f"{n}," for n in range(count)) + "last"

    place.run(scenario)


def test_writes_to_a_lost_connection_are_ignored_and_then_warned_of(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario(place: Place) -> None:
        await place.pair(server := Data(), client := Data())
        client.transport.close()
        for turn in range(7):
            client.transport.write(b"x")
            assert len([r for r in caplog.records if r.levelno == logging.WARNING]) == max(0, turn - 3)
        await until(lambda: client.is_lost)
        client.transport.write(b"x")
        client.transport.close()
        client.transport.abort()
        with pytest.raises(TypeError, match="bytes-like"):
            client.transport.write("text")
        await until(lambda: server.is_lost)
        assert server.received == b""

    with caplog.at_level(logging.WARNING, "asyncio"):
        place.run(scenario)


# ---- What raises


@pytest.mark.parametrize("where", ["data_received", "eof_received", "get_buffer", "buffer_updated", "empty buffer"])
@pytest.mark.parametrize("error", [ZeroDivisionError, asyncio.CancelledError])
def test_what_raises_while_reading_ends_its_connection_alone(
    place: Place, where: str, error: type[BaseException]
) -> None:
    async def scenario(place: Place) -> None:
        kind = Data if where in ("data_received", "eof_received") else Buffered
        servers: list[Any] = []

        def factory() -> Any:
            servers.append(Data() if servers else kind(wrong=where, error=error))
            return servers[-1]

        await place.serve(factory)
        wrong, client = await place.connect(Data)
        right, other = await place.connect(Data)
        wrong.write(b"abc")
        if where == "eof_received":
            wrong.write_eof()
        await until(lambda: servers[0].is_lost and client.is_lost)
        raised = "RuntimeError" if where == "empty buffer" else error.__name__
        assert [told[0] for told in place.told] == [raised]
        assert servers[0].events[-1] == ("connection_lost", raised)
        right.write(b"goes on")
        await until(lambda: servers[1].received == b"goes on")
        assert not other.is_lost
        right.close()
        await until(lambda: servers[1].is_lost)

    place.run(scenario)


@pytest.mark.parametrize("where", ["connection_made", "pause_writing", "resume_writing", "connection_lost"])
def test_what_raises_elsewhere_is_told_and_nothing_else(place: Place, where: str) -> None:
    async def scenario(place: Place) -> None:
        server, client = Data(), Data(wrong=where)
        await place.pair(server, client)
        transport = client.transport
        server.transport.pause_reading()
        while "pause_writing" not in client.events:
            transport.write(bytes(100_000))
        server.transport.resume_reading()
        await until(lambda: "resume_writing" in client.events)
        transport.close()
        await until(lambda: client.is_lost and server.is_lost)
        await turns()
        assert place.told == [("ZeroDivisionError", f"in {where}")]
        assert client.events == ["connection_made", "pause_writing", "resume_writing", ("connection_lost", "NoneType")]

    place.run(scenario)


def test_a_factory_that_raises_does_not_stop_the_server(place: Place) -> None:
    async def scenario(place: Place) -> None:
        asyncio.get_running_loop().set_debug(place.kind in ("unix", "tcp"))  # where asyncio tells only then
        served: list[Any] = []

        def factory() -> Data:
            served.append(None)
            if len(served) == 1:
                raise ZeroDivisionError("no protocol")
            served.append(Data())
            return served[-1]  # type: ignore[no-any-return]

        server = await place.serve(factory)
        _, first = await place.connect(Data)
        await until(lambda: place.told)
        gc.collect()  # which closes a socket that nobody has
        await until(lambda: first.is_lost)
        transport, second = await place.connect(Data)
        transport.write(b"served")
        await until(lambda: served[-1] is not None and served[-1].received == b"served")
        assert server.is_serving()
        assert place.told[0] == ("ZeroDivisionError", "no protocol")
        transport.close()
        await until(lambda: second.is_lost)

    warnings.simplefilter("ignore", ResourceWarning)  # of that socket
    place.run(scenario)


def test_a_client_factory_that_raises_leaves_no_connection(name: str) -> None:
    """Such a one would warn when it is collected, which fails."""

    async def scenario(place: Place) -> None:
        await place.serve(Data)
        with pytest.raises(ZeroDivisionError):
            await place.connect(lambda: 1 // 0)

    Place("npipe", name).run(scenario)


# ---- The end


@pytest.mark.parametrize("how", ["close", "abort"])
def test_the_loss_is_told_in_the_next_turn(place: Place, how: str) -> None:
    async def scenario(place: Place) -> None:
        server, client = Data(), Data()
        await place.pair(server, client)
        getattr(client.transport, how)()
        assert client.transport.is_closing()
        assert client.events == ["connection_made"]
        await asyncio.sleep(0)
        assert client.events == ["connection_made", ("connection_lost", "NoneType")]
        await until(lambda: server.is_lost)

    place.run(scenario)


def test_abort_drops_what_is_buffered(place: Place) -> None:
    async def scenario(place: Place) -> None:
        server, client = Data(), Data()
        await place.pair(server, client)
        server.transport.pause_reading()
        client.transport.write(bytes(10_000_000))
        client.transport.abort()
        assert client.transport.get_write_buffer_size() == 0
        await asyncio.sleep(0)
        assert client.events[-1] == ("connection_lost", "NoneType")
        server.transport.resume_reading()
        await until(lambda: server.is_lost)
        assert len(server.received) < 10_000_000

    place.run(scenario)


def test_cancelling_all_tasks_leaves_transports_and_servers_alone(place: Place) -> None:
    async def scenario(place: Place) -> None:
        server, client = Data(data_received=lambda this: this.transport.write(b"answer")), Data()
        await place.pair(server, client)
        client.transport.write(b"first")
        client.transport.write(bytes(1_000_000))  # under way
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
        await turns(10)
        await until(lambda: len(server.received) == 1_000_005 and b"answer" in client.received)
        transport, later = await place.connect(Data)  # the server, too
        transport.close()
        await until(lambda: later.is_lost)
        assert place.told == []

    place.run(scenario)


def test_a_loop_may_be_closed_while_everything_is_open(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    async def scenario(place: Place) -> None:
        server, client = Data(), Data()
        await place.pair(server, client)
        server.transport.pause_reading()
        client.transport.write(bytes(10_000_000))
        assert asyncio.all_tasks() == {asyncio.current_task()}
        place.made.clear()
        place.server = None

    loop = LOOPS.get(place.kind, npipe.aio.PipeEventLoop)()
    loop.set_exception_handler(place.note)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        loop.run_until_complete(scenario(place))
        loop.close()
        del loop
        gc.collect()
        gc.collect()
    assert place.told == []
    assert [record.message for record in caplog.records] == []
    assert {warning.category for warning in caught} == {ResourceWarning}, [str(warning.message) for warning in caught]
    assert len([warning for warning in caught if "unclosed transport" in str(warning.message)]) == 2


def test_callbacks_see_the_context_of_the_connection(place: Place) -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="nothing")

    async def scenario(place: Place) -> None:
        seen: list[str] = []
        client = Data(
            connection_made=lambda _: seen.append(variable.get()),
            data_received=lambda _: seen.append(variable.get()),
            connection_lost=lambda _: seen.append(variable.get()),
        )
        server = Data()
        await place.serve(lambda: server)
        variable.set("connecting")
        transport, _ = await place.connect(lambda: client)
        variable.set("later")
        await until(lambda: server.transport)
        server.transport.write(b"x")
        await until(lambda: client.received)
        transport.close()
        await until(lambda: client.is_lost)
        assert seen == ["connecting", "connecting", "later"]

    place.run(scenario)


def test_extra_information_has_a_default(place: Place) -> None:
    async def scenario(place: Place) -> None:
        await place.pair(server := Data(), Data())
        assert server.transport.get_extra_info("peername") is not None
        assert server.transport.get_extra_info("nothing", "default") == "default"
        if place.is_pipe:
            assert server.transport.get_extra_info("pipe").info.is_server

    place.run(scenario)


def test_what_came_before_a_failed_write_is_received(name: str) -> None:
    """Sockets lose it."""

    async def scenario(place: Place) -> None:
        for pausing in (False, True):
            server, client = Data(), Data()
            await place.pair(server, client)
            if pausing:
                server.transport.pause_reading()
            client.transport.write(b"last words")
            client.transport._pipe._end(discard=False)  # the peer is gone before the server has had a turn
            transport = server.transport
            transport.write(b"too late")
            transport.write(b"later still")
            if pausing:
                await turns(10)
                assert server.events == ["connection_made"]
                transport.resume_reading()
            await until(lambda server=server: server.is_lost)  # type: ignore[misc]
            assert server.events[1:] == [("data_received", b"last words"), ("connection_lost", "PipeClosedError")]
            assert place.told == []
            place.server.close()
            client.transport.abort()

    Place("npipe", name).run(scenario)


def test_a_stream_reader_has_what_came_before_a_failed_write(name: str) -> None:
    async def scenario(place: Place) -> None:
        async with npipe.aio.listen(name, mode="byte") as listener:
            reader, writer = await npipe.aio.open_stream(name)
            async with await listener.accept() as pipe:
                await pipe.write(b"last words")
            writer.write(b"too late")
            with pytest.raises(ConnectionError):
                while True:
                    await writer.drain()
                    await asyncio.sleep(0)
            assert await reader.read(4) == b"last"
            assert await reader.read() == b" words"
            assert reader.at_eof()
            writer.close()
            with pytest.raises(npipe.PipeClosedError):
                await writer.wait_closed()

    Place("npipe", name).run(scenario)


@EAGER
def test_writes_go_on_with_eager_tasks(place: Place) -> None:
    async def scenario(place: Place) -> None:
        asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)  # type: ignore[attr-defined,unused-ignore]
        server, client = Data(), Data()
        await place.pair(server, client)
        for _ in range(50):
            client.transport.write(bytes(100_000))
        await until(lambda: len(server.received) == 5_000_000)
        client.transport.close()
        await until(lambda: server.is_lost and client.is_lost)
        asyncio.get_running_loop().set_task_factory(None)  # with which uvloop cannot end on 3.13

    place.run(scenario)
