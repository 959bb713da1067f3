"""Pipes as ends of a relay."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING

from npipe.aio import MessagePipe, connect, listen
from npipe.errors import PipeClosedError, PipeError, PipeModeError
from npipe.names import parse_name
from npipe.opening import list_pipes
from npipe.reasons import ended_badly
from npipe.relay.base import PIECE, Acceptor, Arrival, Channel, PeerLostError

if TYPE_CHECKING:
    from npipe.aio import Listener, StreamPipe
    from npipe.relay.addresses import Address
    from npipe.relay.base import RelayOptions

__all__ = ["PipeAcceptor", "PipeChannel", "PipeDialler"]


class PipeChannel(Channel):
    """A pipe, message by message, or (`flat`) as a stream whose end an empty message is."""

    def __init__(self, pipe: MessagePipe | StreamPipe, label: str, *, flat: bool, close_message: bool) -> None:
        self._pipe = pipe
        self._flat = flat
        self._close_message = close_message
        self._room = bytearray(PIECE if flat else 0)
        self._peer_gone = False
        self.label: str = label
        self.messages: bool = not flat

    async def read(self) -> bytes | None:
        """See Channel.read."""
        pipe = self._pipe
        try:
            if not isinstance(pipe, MessagePipe):
                data = await pipe.read(PIECE)
            elif self._flat:
                data = bytes(memoryview(self._room)[: await pipe.recv_into(self._room)])
            else:
                return await pipe.recv()
        except PipeClosedError as error:
            self._part(error)
            self.read_ended = self.peer_closed = True
            return None
        except PipeError as error:
            raise PeerLostError(str(error)) from error
        if not data:
            self.read_ended: bool = True
            return None
        return data

    def _part(self, error: PipeClosedError) -> None:
        """Note that the peer has gone; PeerLostError if not by a close."""
        self._peer_gone = True
        self.parting: str = error.detail or ""
        if ended_badly(error):
            raise PeerLostError(error.detail or str(error)) from error

    async def write(self, data: bytes) -> None:
        """See Channel.write."""
        pipe = self._pipe
        try:
            if isinstance(pipe, MessagePipe):
                await pipe.send(data)
            else:
                await pipe.write(data)
        except PipeError as error:
            self._peer_gone = self._peer_gone or isinstance(error, PipeClosedError)
            raise PeerLostError(error.detail or str(error)) from error

    async def finish(self) -> bool:
        """See Channel.finish: an empty message says it, of which pipes of byte type have none."""
        if not self._close_message or self._pipe.info.type != "message":
            return False
        try:
            await self._pipe.flush()  # a reader of bytes takes an empty message together with what is before it
            await self.write(b"")
        except PipeError as error:
            raise PeerLostError(error.detail or str(error)) from error
        return True

    async def gone(self) -> None:
        """See Channel.gone."""
        pipe = self._pipe
        if not isinstance(pipe, MessagePipe):  # behind an empty message it reads nothing more
            await super().gone()
            return
        try:
            while True:
                self.count_drained(await pipe.recv_into(self._room))
        except PipeClosedError as error:
            self._part(error)
        except PipeError as error:
            raise PeerLostError(str(error)) from error

    def unread(self) -> int:
        """See Channel.unread. On Windows, and of another machine's pipe, nobody counts."""
        try:
            self._pipe.peek()
        except PipeClosedError:
            self._peer_gone = True
        except PipeError:  # it may not be read
            pass
        try:
            stats = self._pipe.stats if self._peer_gone else None
        except PipeError:
            return 0
        return 0 if stats is None else min(stats.unread_by_peer, stats.bytes_sent)

    async def close(self, linger: float) -> int:
        """See Channel.close. What was written stays readable for the peer, which learns of the end by its next call."""
        dropped = self._unread()
        await self._pipe.close(timeout=max(linger, 0))
        return self.drained + dropped

    async def shut(self) -> int:
        """See Channel.shut."""
        return await self.close(0)

    def _unread(self) -> int:
        if self.read_ended and self.peer_closed:
            return 0
        try:
            return self._pipe.peek().available
        except PipeError:  # closed, or it may not be read
            return 0


class PipeDialler:
    """Connects to a pipe, in the mode that it has."""

    def __init__(self, address: Address, options: RelayOptions, *, flat: bool) -> None:
        self._address = address
        self._options = options
        self._flat = flat

    async def __call__(self) -> PipeChannel:
        """Connect; raises PipeError."""
        name, options = self._address.name, self._options
        assert name is not None  # noqa: S101 - a pipe has one
        if not self._flat and name.host is None and sys.platform != "win32":
            # Its type, where it can be told before (Windows lists none): an attempt is a client that comes and goes.
            pipes = await asyncio.to_thread(list_pipes)
            self._flat = any(pipe.type == "byte" and parse_name(pipe.name) == name for pipe in pipes)
        if not self._flat:
            try:
                return self._channel(
                    await connect(
                        name.path,
                        timeout=options.connect_timeout,
                        verify_owner=options.verify_owner,
                        wait_for_server=options.wait_for_server,
                        max_message_size=options.max_message_size,
                        remote=options.remote,
                    )
                )
            except PipeModeError:
                self._flat = True  # a pipe of bytes: it stays one
        return self._channel(
            await connect(
                name.path,
                mode="byte",
                timeout=options.connect_timeout,
                verify_owner=options.verify_owner,
                wait_for_server=options.wait_for_server,
                remote=options.remote,
            )
        )

    def _channel(self, pipe: MessagePipe | StreamPipe) -> PipeChannel:
        close = self._options.close_message
        return PipeChannel(
            pipe, self._address.given, flat=self._flat, close_message=self._flat if close is None else close
        )


class PipeAcceptor(Acceptor):
    """A pipe's name, on which clients come."""

    def __init__(self, address: Address, options: RelayOptions, *, flat: bool) -> None:
        name = address.name
        assert name is not None  # noqa: S101 - a pipe has one
        self._options = options
        self._flat = flat or options.mode == "byte"
        self._listener: Listener[MessagePipe] | Listener[StreamPipe] = (
            listen(name.path, security=options.security, max_message_size=options.max_message_size)
            if options.mode == "message"
            else listen(name.path, mode="byte", security=options.security)
        )
        self.label: str = self._listener.name

    async def accept(self) -> Arrival:
        """See Acceptor.accept."""
        pipe = await self._listener.accept()
        try:
            peer = pipe.peer
            label = f"process {peer.pid} of {peer.user or peer.uid}"
        except PipeError:  # gone already; what it wrote is still to be carried
            label = "a client that has gone"
        close = self._options.close_message
        channel = PipeChannel(pipe, label, flat=self._flat, close_message=self._flat if close is None else close)

        async def opened() -> Channel:
            return channel

        return Arrival(label, opened, pipe.abort)

    async def close(self) -> None:
        """See Acceptor.close."""
        await self._listener.close()
