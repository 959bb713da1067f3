"""A relay: who comes to one side is connected to the other."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import errno
import inspect
import logging
import time
from typing import TYPE_CHECKING, Any, Final, Self

from npipe.errors import PipeArgumentError, PipeError, WinError
from npipe.relay.addresses import Address, is_host, parse_address
from npipe.relay.base import Acceptor, Arrival, PeerLostError, RelayOptions
from npipe.relay.conversation import Conversation, Report
from npipe.relay.framing import Framed, splitter
from npipe.relay.pipes import PipeAcceptor, PipeDialler
from npipe.relay.programs import StandardChannel, start_command
from npipe.relay.secured import TLSChannel
from npipe.relay.sockets import SocketAcceptor, SocketChannel, dial_socket, listen_at, place_of

if TYPE_CHECKING:
    import ssl
    from collections.abc import Awaitable, Callable, Iterator
    from types import TracebackType

    from npipe.relay.base import Channel

__all__ = ["Relay", "Summary"]

logger: Final = logging.getLogger("npipe.relay")

_REST: Final = 1.0  # seconds after an accept that the system has failed: it is out of descriptors, say
_FIRST_PAUSE: Final = 0.1  # seconds before dialling again
_LONGEST_PAUSE: Final = 30.0
_FAILURES: Final = (OSError, PeerLostError)  # PipeError is an OSError


@dataclasses.dataclass
class Summary:
    """What a relay has done, all together."""

    connections: int = 0
    unclean: int = 0
    """Connections that lost something, or whose peer has gone without a proper end."""
    unreached: int = 0
    """Connections for which there was no other side."""
    forth: int = 0
    """Bytes from the first side to the second."""
    back: int = 0
    dropped: int = 0
    """Bytes that were read and could not be delivered."""


class Relay:
    """Connects who comes to the first side with the second side, each by a connection of its own.

    `async with Relay(first, second) as relay: await relay.run()`. In the block it listens; `run` carries until `stop`,
    or, if neither side listens, until its one connection has ended. See docs/relay.md.
    """

    def __init__(
        self,
        first: str | Address,
        second: str | Address,
        options: RelayOptions | None = None,
        *,
        on_report: Callable[[Report], None] | None = None,
    ) -> None:
        """Check the two ends, and do nothing yet.

        Args:
            first: one end, as npipe.relay.parse_address takes it. It listens, unless it says otherwise or cannot.
            second: the other one. It is dialled, unless it says otherwise.
            options: how to behave.
            on_report: called with what came of each connection.

        Raises:
            PipeArgumentError: an end is none, or the two do not go together (87).
            PipeNameError: a name is not a pipe's (3, 123).
        """
        options = options or RelayOptions()
        self.options: RelayOptions = options
        self.first: Address = parse_address(first) if isinstance(first, str) else first
        self.second: Address = parse_address(second) if isinstance(second, str) else second
        self._listens = (
            self.first.role == "listen" or (self.first.role is None and self.first.kind not in ("stdio", "exec")),
            self.second.role == "listen",
        )
        if self.first.is_once and self.second.is_once:
            raise _wrong("both sides are standard input and output")
        if options.reconnect and (self.first.is_once or self.second.is_once):
            raise _wrong("standard input and output are there once, so there is nothing to connect again")
        if options.tls_name is not None and not is_host(options.tls_name):
            raise _wrong(f"{options.tls_name!r} cannot be the name of a host, which a certificate would have")
        for address, listens in zip((self.first, self.second), self._listens, strict=True):
            if address.kind in ("tls", "wss") and (options.tls_server if listens else options.tls_client) is None:
                raise _wrong(f"{address.given} needs certificates", "give certificate, key and authorities")
            if listens and address.name is not None and address.name.host is not None:
                raise _wrong(f"{address.given} is on another machine, where nothing listens from here")
        # As a stream, unless both sides have messages, or the stream is to have them.
        both = all(
            address.has_messages and not (listens and address.kind == "pipe" and options.mode == "byte")
            for address, listens in zip((self.first, self.second), self._listens, strict=True)
        )
        self._flat = options.framing == "raw" or (options.framing == "auto" and not both)
        self._on_report = on_report
        self.summary: Summary = Summary()
        self._acceptors: tuple[Acceptor | None, Acceptor | None] = (None, None)
        self._dials = (self._dialler(self.first), self._dialler(self.second))
        self._stopping = asyncio.Event()
        self._cutting = asyncio.Event()
        self._talks: set[Conversation] = set()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._talking: set[asyncio.Task[Any] | None] = set()
        """Those of the tasks that have both sides."""
        self._room = asyncio.Event()
        self._freed = asyncio.Event()
        self._short = 0
        """Clients for whose other side no descriptor was left: no more are taken until they have it."""
        self._waiting = 0
        """Those of them that wait until one is free."""
        self._number = 0
        self._reached = False
        """Whether there was a connection of both sides."""
        self._failure: BaseException | None = None
        self._why = "by stop"

    @property
    def places(self) -> tuple[str, ...]:
        """Where it listens, with the ports that were found."""
        return tuple(acceptor.label for acceptor in self._acceptors if acceptor is not None)

    async def __aenter__(self) -> Self:
        """Listen. Raises OSError, or PipeError, when a place is taken or not to be had."""
        made: list[Acceptor | None] = []
        try:
            for address, listens in zip((self.first, self.second), self._listens, strict=True):
                with _named(address):
                    made.append(await self._acceptor(address) if listens else None)
        except BaseException:
            for acceptor in made:
                if acceptor is not None:
                    await acceptor.close()
            raise
        self._acceptors = (made[0], made[1])
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for talk in self._talks:
            talk.stop("by the relay's end")
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for acceptor in self._acceptors:
            if acceptor is not None:
                await acceptor.close()

    def stop(self, why: str = "by stop") -> None:
        """Take no more clients, and let `run` return when those that are there have ended; `why` is for the log."""
        self._why = why
        self._stopping.set()

    def cut(self) -> None:
        """After stop: end all connections now, and those that are not made yet."""
        self._cutting.set()
        for talk in self._talks:
            talk.stop(self._why)

    async def run(self, *, grace: float | None = 5.0) -> Summary:
        """Carry until `stop`; connections that are there then have `grace` seconds to end, and are cut.

        Returns:
            The Summary.

        Raises:
            OSError: neither side listens, and one of them cannot be reached; a PipeError if it is a pipe.
            PeerLostError: the same, of a handshake.
        """
        first, second = self._acceptors
        stopping = asyncio.create_task(self._stopping.wait())
        if first is None and second is None:
            work = asyncio.create_task(self._dial_both())
        elif first is not None and second is not None:
            work = asyncio.create_task(self._pair(first, second))
        else:
            work = asyncio.create_task(self._accept())
        try:
            await asyncio.wait((stopping, work), return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                work.result()
            elif first is not None or second is not None:
                work.cancel()
                await asyncio.gather(work, return_exceptions=True)
            for acceptor in self._acceptors:
                if acceptor is not None:
                    await acceptor.close()
            if self._stopping.is_set():
                logger.info("ending, %s", self._why)
            await self._end(grace)
            if not work.done():  # the one that dials
                work.cancel()
                await asyncio.gather(work, return_exceptions=True)
        finally:
            for task in (stopping, work):
                task.cancel()
            await asyncio.gather(stopping, work, return_exceptions=True)
        return self.summary

    async def _end(self, grace: float | None) -> None:
        """Wait for the connections, and cut those that take too long."""
        if self._tasks:
            ended = asyncio.create_task(asyncio.wait(self._tasks))
            cutting = asyncio.create_task(self._cutting.wait())
            try:
                await asyncio.wait((ended, cutting), timeout=grace, return_when=asyncio.FIRST_COMPLETED)
            finally:
                ended.cancel()
                cutting.cancel()
                await asyncio.gather(ended, cutting, return_exceptions=True)
        self.cut()
        for task in self._tasks - self._talking:  # still dialling, or at the handshake
            task.cancel()
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=self.options.linger + 1)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    # ---- Who comes

    async def _acceptor(self, address: Address) -> Acceptor:
        options = self.options
        if address.kind == "pipe":
            return PipeAcceptor(address, options, flat=self._flat)
        if address.kind in ("ws", "wss"):
            from npipe.relay.web import listen_web

            return await listen_web(address, options, flat=self._flat)
        acceptor = await listen_at(address, options)
        return _Secured(acceptor, options) if address.kind == "tls" else acceptor

    async def _accept(self) -> None:
        """One side listens: the other one is dialled for each client."""
        index = 0 if self._acceptors[0] is not None else 1
        acceptor, dial = self._acceptors[index], self._dials[1 - index]
        assert acceptor is not None  # noqa: S101 - one of the two is there
        other = (self.first, self.second)[1 - index]
        while True:
            arrival = await self._next(acceptor)
            self._start(self._serve(arrival, dial, index))
            if other.is_once:
                await asyncio.wait(self._tasks)
                if self._reached:  # not by who fails at the handshake, say
                    return

    async def _pair(self, first: Acceptor, second: Acceptor) -> None:
        """Both sides listen: the next client of one is connected with the next one of the other."""
        while True:
            came = [asyncio.create_task(self._next(acceptor)) for acceptor in (first, second)]
            began = time.monotonic()
            try:
                await asyncio.wait(came, return_when=asyncio.FIRST_EXCEPTION)
                one, other = (task.result() for task in came)
            except BaseException:  # stopped, say, while one waits for its partner
                for task in came:
                    task.cancel()
                for index, arrival in enumerate(await asyncio.gather(*came, return_exceptions=True)):
                    if isinstance(arrival, Arrival):
                        await _refuse(arrival)
                        self._number += 1
                        place = (self.second, self.first)[index].given
                        self._refused(self._number, arrival, index, f"{place}: nobody came, {self._why}", began)
                raise
            self._start(self._serve(one, other.open, 0, other))

    async def _next(self, acceptor: Acceptor) -> Arrival:
        limit = self.options.max_connections
        while True:
            while self._short or (limit is not None and len(self._tasks) >= limit):
                self._freed.clear()
                await self._freed.wait()
            try:
                return await acceptor.accept()
            except OSError as error:
                logger.warning("no client can be taken: %s", error)
                self._freed.clear()
                try:
                    await asyncio.wait_for(self._freed.wait(), _REST)  # a connection that ends may be the cure
                except TimeoutError:
                    continue

    def _start(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._freed.set()
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("a connection failed: %r", error, exc_info=error)
            self.summary.unclean += 1

    async def _serve(
        self, arrival: Arrival, dial: Callable[[], Awaitable[Channel]], index: int, other: Arrival | None = None
    ) -> None:
        """One client's connection, from its handshake on."""
        self._number += 1
        number = self._number
        began = time.monotonic()
        here: Channel | None = None
        try:
            async with asyncio.timeout(self.options.connect_timeout):
                here = await arrival.open()
            # Nothing has been read of the client yet: if the other side is not there, nothing is lost.
            there = await self._reach(dial)
        except BaseException as error:
            try:
                if here is not None:
                    await here.close(0)
            finally:
                for refused in (arrival, other):
                    if refused is not None:
                        await _refuse(refused)
            cut = isinstance(error, asyncio.CancelledError)
            if cut or isinstance(error, _FAILURES):
                who = (self.second, self.first)[index].given if here is not None else arrival.label
                self._refused(number, arrival, index, f"{who}: {self._why if cut else _text(error)}", began)
            if not isinstance(error, _FAILURES):
                raise
            return
        await self._talk(number, here, there, index)

    def _refused(self, number: int, arrival: Arrival, index: int, why: str, began: float) -> None:
        """Tell of a client of this side that was not connected with the other one."""
        self.summary.unreached += 1
        other = (self.second, self.first)[index].given
        ends = (arrival.label, other) if index == 0 else (other, arrival.label)
        report = Report(number, *ends, how="refused", lost=why)
        report.seconds = time.monotonic() - began
        self._tell(report)

    async def _reach(self, dial: Callable[[], Awaitable[Channel]]) -> Channel:
        """Dial, and again while nobody is there, if that is to be waited for."""
        # A pipe's own time-out says more, and comes first.
        deadline = None if self.options.connect_timeout is None else self.options.connect_timeout + 1
        pause = _FIRST_PAUSE / 10
        shortage: OSError | None = None
        limit = asyncio.timeout(deadline)
        try:
            async with limit:
                while True:
                    try:
                        return await dial()
                    except OSError as error:
                        if _is_short_of_descriptors(error) and self._may_free():
                            self._short += shortage is None
                            shortage = error
                            await self._until_freed()
                            continue
                        if (
                            not self.options.wait_for_server
                            or isinstance(error, PipeError)
                            or not isinstance(error, (ConnectionRefusedError, FileNotFoundError))
                        ):
                            raise
                    await asyncio.sleep(pause)  # nothing tells of a socket that comes to listen
                    pause = min(pause * 2, 1.0)
        except TimeoutError:
            if shortage is not None and limit.expired():
                raise shortage from None  # it says more
            raise
        finally:
            if shortage is not None:
                self._short -= 1
                if not self._short:
                    self._freed.set()  # others may come again

    def _may_free(self) -> bool:
        """Whether there is a connection that may end, or become one, without waiting for a descriptor itself."""
        return bool(self._talks) or len(self._tasks) > self._waiting + 1

    async def _until_freed(self) -> None:
        """Wait until a connection has ended. It wakes nobody: those who wait would wake each other."""
        self._waiting += 1
        try:
            self._freed.clear()
            await self._freed.wait()
        finally:
            self._waiting -= 1

    async def _talk(self, number: int, here: Channel, there: Channel, index: int) -> Report:
        channels = (here, there) if index == 0 else (there, here)
        talk = Conversation(number, self._framed(channels[0]), self._framed(channels[1]), self.options)
        task = asyncio.current_task()
        self._reached = True
        self._talks.add(talk)
        self._talking.add(task)
        if self._cutting.is_set():
            talk.stop(self._why)
        logger.debug("connection %d: %s, %s", number, talk.report.first, talk.report.second)
        try:
            report = await talk.run()
        except asyncio.CancelledError:
            talk.report.how = "cut"
            talk.report.lost = talk.report.lost or self._why
            self._count(talk.report)
            raise
        finally:
            self._talks.discard(talk)
            self._talking.discard(task)
        self._count(report)
        return report

    def _framed(self, channel: Channel) -> Channel:
        if self._flat or channel.messages or self.options.framing == "auto":
            return channel
        return Framed(channel, splitter(self.options.framing, self.options.max_message_size))

    # ---- Dialling

    async def _dial_both(self) -> None:
        """Neither side listens: one connection, or one after the other."""
        pause = _FIRST_PAUSE
        while True:
            self._number += 1
            try:
                with _named(self.first):
                    one = await self._reach(self._dials[0])
                try:
                    with _named(self.second):
                        other = await self._reach(self._dials[1])
                except BaseException:
                    await one.close(0)
                    raise
            except _FAILURES as error:
                if not self.options.reconnect:
                    raise
                where = "" if isinstance(error, (PipeError, PeerLostError)) else f"{error.filename}: "
                logger.warning("connection %d: %s%s", self._number, where, _text(error))
                self.summary.unreached += 1
            else:
                task = asyncio.create_task(self._talk(self._number, one, other, 0))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
                report = await task
                if report.forth.bytes or report.back.bytes:
                    pause = _FIRST_PAUSE
                if not self.options.reconnect:
                    return
            if self._stopping.is_set():
                return
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)

    def _dialler(self, address: Address) -> Callable[[], Awaitable[Channel]]:
        options = self.options
        if address.kind == "pipe":
            return PipeDialler(address, options, flat=self._flat)

        async def dial() -> Channel:
            if address.kind == "stdio":
                return StandardChannel()
            if address.kind == "exec":
                return await start_command(address.path)
            if address.kind in ("ws", "wss"):
                from npipe.relay.web import dial_websocket

                return await dial_websocket(address, options, flat=self._flat)
            channel = SocketChannel(await dial_socket(address, options), address.given)
            if address.kind != "tls":
                return channel
            assert options.tls_client is not None  # noqa: S101 - checked before
            return await _secure(channel, options.tls_client, options.tls_name or address.host)

        return dial

    # ---- What came of it

    def _count(self, report: Report) -> None:
        summary = self.summary
        summary.connections += 1
        summary.unclean += not report.clean
        summary.forth += report.forth.bytes
        summary.back += report.back.bytes
        summary.dropped += report.forth.dropped + report.back.dropped
        self._tell(report)

    def _tell(self, report: Report) -> None:
        text = f"connection {report.number}: {report.first}, {report.second}: "
        text += f"{report.forth.bytes} bytes forth, {report.back.bytes} back, {report.seconds:.3f} s, {report.how}"
        for flow, way in ((report.forth, "forth"), (report.back, "back")):
            if flow.dropped:
                text += f"; up to {flow.dropped} bytes {way} were not delivered"
        if report.lost:
            text += f"; {report.lost}"
        logger.log(logging.INFO if report.clean else logging.WARNING, "%s", text, extra={"report": report})
        if self._on_report is not None:
            self._on_report(report)


class _Secured(Acceptor):
    """Clients that come over TLS; the handshake is made in the connection's own task."""

    def __init__(self, acceptor: SocketAcceptor, options: RelayOptions) -> None:
        self._acceptor = acceptor
        self._context = options.tls_server
        self.label = acceptor.label

    async def accept(self) -> Arrival:
        connection, place = await self._acceptor.accept_socket()
        label, context = place_of(place), self._context
        assert context is not None  # noqa: S101 - checked before

        async def opened() -> Channel:
            return await _secure(SocketChannel(connection, label), context, None)

        return Arrival(label, opened, connection.close)

    async def close(self) -> None:
        await self._acceptor.close()


async def _secure(channel: SocketChannel, context: ssl.SSLContext, name: str | None) -> Channel:
    try:
        secured = TLSChannel(channel, context, server_name=name)
        await secured.handshake()
    except BaseException:
        await channel.shut()
        raise
    return secured


async def _refuse(arrival: Arrival) -> None:
    if inspect.isawaitable(result := arrival.refuse()):
        await result


@contextlib.contextmanager
def _named(address: Address) -> Iterator[None]:
    """Let errors name the end; those of a pipe do."""
    try:
        yield
    except PeerLostError as error:
        raise PeerLostError(f"{address.given}: {error}") from error
    except OSError as error:
        if not isinstance(error, PipeError):
            if not error.strerror:
                error.strerror = _text(error)
            error.filename = address.given
        raise


def _is_short_of_descriptors(error: OSError) -> bool:
    if isinstance(error, PipeError):  # 1450: the pipe's server is
        return error.winerror in (WinError.TOO_MANY_OPEN_FILES, WinError.NO_SYSTEM_RESOURCES)
    return error.errno in (errno.EMFILE, errno.ENFILE)


def _text(error: BaseException) -> str:
    if isinstance(error, PipeError):
        return str(error)
    if isinstance(error, TimeoutError) and not error.args:
        return "not reached in time"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__


def _wrong(detail: str, hint: str | None = None) -> PipeArgumentError:
    return PipeArgumentError(WinError.INVALID_PARAMETER, detail=detail, hint=hint)
