"""Websockets as ends of a relay, by the library websockets (the extra `ws`)."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from npipe.relay.base import Acceptor, Arrival, Channel, PeerLostError
from npipe.relay.sockets import place_of

try:
    import websockets.asyncio.client as client
    import websockets.asyncio.server as server
    from websockets.exceptions import ConnectionClosed, ConnectionClosedOK, WebSocketException
    from websockets.typing import Origin
except ImportError as _error:
    raise ImportError("ws: and wss: need the library websockets: pip install 'npipe[ws]'") from _error

if TYPE_CHECKING:
    from websockets.http11 import Request, Response

    from npipe.relay.addresses import Address
    from npipe.relay.base import RelayOptions

__all__ = ["WebAcceptor", "WebChannel", "dial_websocket", "listen_web"]

_FLOW: Final[dict[str, Any]] = {
    "max_queue": 1,  # messages that are read ahead; 16, the library's choice, may be a gigabyte
    # A peer is asked whether it is there, so that something is sent, but its answer may stand behind messages that
    # the other side does not take: no answer in time says nothing.
    "ping_timeout": None,
}


class WebChannel(Channel):
    """A websocket. Its messages are bytes; of one that is text, its UTF-8. One way cannot end without the other."""

    messages = True

    def __init__(
        self, connection: client.ClientConnection | server.ServerConnection, label: str, *, flat: bool
    ) -> None:
        self._connection = connection
        self._flat = flat
        self.label = label
        self.closed: asyncio.Event = asyncio.Event()

    async def read(self) -> bytes | None:
        """See Channel.read."""
        try:
            while True:
                data = await self._connection.recv(decode=False)
                if data or not self._flat:  # in a stream an empty message is nothing
                    return bytes(data)
        except ConnectionClosedOK:
            self.read_ended = self.peer_closed = True
            return None
        except ConnectionClosed as error:
            raise PeerLostError(_reason(error)) from error

    async def write(self, data: bytes) -> None:
        """See Channel.write."""
        try:
            await self._connection.send(data)
        except ConnectionClosed as error:
            raise PeerLostError(_reason(error)) from error

    async def finish(self) -> bool:
        """See Channel.finish."""
        return False

    async def close(self, linger: float) -> int:
        """See Channel.close: what comes before the peer's own closing is dropped."""
        closing = asyncio.ensure_future(self._connection.close())
        try:
            async with asyncio.timeout(linger):
                await self.drain()
                await closing
        except TimeoutError:
            pass
        finally:
            closing.cancel()
            await asyncio.gather(closing, return_exceptions=True)
            await self.shut()
        return self.drained

    async def shut(self) -> int:
        """See Channel.shut."""
        self.abort()
        return 0

    def abort(self) -> None:
        """Close it without a word."""
        self._connection.transport.abort()
        self.closed.set()


def _reason(error: ConnectionClosed) -> str:
    if error.rcvd is not None and error.rcvd.code != 1006:
        return f"the websocket was closed with {error.rcvd.code} {error.rcvd.reason}".rstrip()
    if error.sent is not None:
        return f"the websocket was closed with {error.sent.code} {error.sent.reason}".rstrip()
    return "the websocket ended without its closing"


class WebAcceptor(Acceptor):
    """A place for websockets, at one path."""

    def __init__(self, address: Address, options: RelayOptions, *, flat: bool) -> None:
        """Listen not yet."""
        self._address = address
        self._options = options
        self._flat = flat
        self._come: asyncio.Queue[WebChannel] = asyncio.Queue()
        self._server: server.Server | None = None
        self.label = address.given

    async def start(self) -> None:
        """Listen; OSError when the place is not to be had."""
        address, options = self._address, self._options
        self._server = await server.serve(
            self._serve,
            address.host,
            address.port,
            ssl=options.tls_server if address.kind == "wss" else None,
            # A page of any site may open a websocket of this machine, and its browser tells which: programs do not.
            origins=[None, *map(Origin, options.origins)],
            max_size=options.max_message_size,
            open_timeout=options.connect_timeout,
            close_timeout=options.linger,
            **_FLOW,
            process_request=self._check_path,
        )
        places = " ".join(place_of(one.getsockname()) for one in self._server.sockets)
        self.label: str = f"{address.kind}:{places}{address.path}"

    def _check_path(self, connection: server.ServerConnection, request: Request) -> Response | None:
        return None if request.path == self._address.path else connection.respond(404, "no relay is here\n")

    async def _serve(self, connection: server.ServerConnection) -> None:
        channel = WebChannel(connection, place_of(connection.remote_address), flat=self._flat)
        self._come.put_nowait(channel)
        await channel.closed.wait()

    async def accept(self) -> Arrival:
        """See Acceptor.accept."""
        channel = await self._come.get()

        async def opened() -> Channel:
            return channel

        return Arrival(channel.label, opened, channel.abort)

    async def close(self) -> None:
        """See Acceptor.close."""
        if self._server is not None:
            self._server.close(close_connections=False)
        while not self._come.empty():
            self._come.get_nowait().abort()


async def listen_web(address: Address, options: RelayOptions, *, flat: bool) -> WebAcceptor:
    """Listen; OSError when the place is not to be had."""
    acceptor = WebAcceptor(address, options, flat=flat)
    await acceptor.start()
    return acceptor


async def dial_websocket(address: Address, options: RelayOptions, *, flat: bool) -> WebChannel:
    """Connect; OSError or PeerLostError when that fails."""
    host = f"[{address.host}]" if ":" in address.host else address.host
    try:
        connection = await client.connect(
            f"{address.kind}://{host}:{address.port}{address.path}",
            ssl=options.tls_client if address.kind == "wss" else None,
            server_hostname=options.tls_name if address.kind == "wss" else None,
            max_size=options.max_message_size,
            open_timeout=options.connect_timeout,
            close_timeout=options.linger,
            **_FLOW,
            proxy=None,
        )
    except WebSocketException as error:
        raise PeerLostError(f"the websocket was refused: {error}") from error
    return WebChannel(connection, address.given, flat=flat)
