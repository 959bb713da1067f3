"""TLS over a socket, with both sides' certificates, and with an end of each way by itself."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections import deque
from typing import TYPE_CHECKING

from npipe.relay.base import PIECE, Channel, CutOffError, PeerLostError

if TYPE_CHECKING:
    import os

__all__ = ["TLSChannel", "tls_contexts"]


def tls_contexts(
    cert: str | os.PathLike[str], key: str | os.PathLike[str] | None, ca: str | os.PathLike[str]
) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Return the contexts of a side that listens and of one that dials; both ask the other for its certificate.

    Args:
        cert: the file of this side's certificate, and those between it and its authority.
        key: the file of its key; None: it is in `cert`.
        ca: the file of the authorities whose certificates the other side may have.

    Returns:
        The context for listening, and the one for dialling.

    Raises:
        OSError: a file cannot be read; ssl.SSLError: it is not what it should be; ValueError: the key wants a
            passphrase, for which nobody is asked.
    """

    def refuse() -> str:
        raise ValueError("the key is encrypted with a passphrase")

    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.verify_mode = ssl.CERT_REQUIRED
    server.num_tickets = 0  # for a client that closes with one unread, the system takes back what it has sent
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # which checks certificate and name
    for context in (server, client):
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(cert, key, refuse)  # else OpenSSL asks on the terminal
        context.load_verify_locations(ca)
    return server, client


class TLSChannel(Channel):
    """A TLS connection over another channel. What one way ends with is TLS's own closing (close_notify)."""

    def __init__(self, inner: Channel, context: ssl.SSLContext, *, server_name: str | None) -> None:
        """Begin nothing yet; `server_name` is None for the side that listens."""
        self._inner = inner
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = context.wrap_bio(
            self._incoming, self._outgoing, server_side=server_name is None, server_hostname=server_name
        )
        self._turn = asyncio.Lock()  # who writes to the inner channel
        self._finished = False
        self._ahead: deque[bytes] = deque()  # what finish has decrypted, for read
        self.label: str = inner.label

    async def handshake(self) -> None:
        """Make the handshake; PeerLostError with the reason when it fails."""
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                await self._flush()
                if not await self._more():
                    self._incoming.write_eof()
            except ssl.SSLError as error:
                with contextlib.suppress(PeerLostError):
                    await self._flush()  # the alert, which tells the peer
                raise PeerLostError(f"TLS: {_reason(error)}") from error
            else:
                await self._flush()
                return

    async def _flush(self) -> None:
        async with self._turn:
            while data := self._outgoing.read():
                await self._inner.write(data)

    async def _more(self) -> bool:
        """Take what comes; False at the inner channel's end, of which OpenSSL hears nothing: then it writes on."""
        data = None if self._inner.read_ended else await self._inner.read()
        if data is not None:
            self._incoming.write(data)
        return data is not None

    async def read(self) -> bytes | None:
        """See Channel.read."""
        while True:
            if self._ahead:
                return self._ahead.popleft()
            try:
                data = self._tls.read(PIECE)
            except ssl.SSLWantReadError:
                if self._outgoing.pending:
                    await self._flush()
                if not await self._more():
                    raise CutOffError("it ended without TLS's closing, so perhaps something is cut off") from None
                continue
            except ssl.SSLZeroReturnError:
                data = b""
            except ssl.SSLError as error:
                raise PeerLostError(f"TLS: {_reason(error)}") from error
            if not data:
                self.read_ended = True
            return data or None

    async def write(self, data: bytes) -> None:
        """See Channel.write."""
        try:
            view = memoryview(data)
            while view:
                view = view[self._tls.write(view) :]
                await self._flush()
        except ssl.SSLError as error:
            raise PeerLostError(f"TLS: {_reason(error)}") from error

    async def finish(self) -> bool:
        """See Channel.finish."""
        if not self._finished:
            self._finished = True
            # unwrap takes what waits to be decrypted for a fault of the peer's, and nothing can be read after that. It
            # is a piece of the inner channel's at most.
            if not self.read_ended:
                with contextlib.suppress(ssl.SSLError):  # it wants more, or is at its end, as the next read finds again
                    while data := self._tls.read(PIECE):
                        self._ahead.append(data)
            with contextlib.suppress(ssl.SSLError):  # it also looks for the peer's closing, which may come later
                self._tls.unwrap()
            await self._flush()
            if self.read_ended:
                await self._inner.finish()
        return True

    async def gone(self) -> None:
        """See Channel.gone."""
        await self._inner.gone()

    async def close(self, linger: float) -> int:
        """See Channel.close."""
        if self.read_ended:  # the peer has said its last: what is left is the socket's own end
            with contextlib.suppress(PeerLostError):
                await self.finish()
            await self._inner.close(linger)
            return 0
        return await super().close(linger)

    async def shut(self) -> int:
        """See Channel.shut."""
        return sum(map(len, self._ahead)) + self._incoming.pending + await self._inner.shut()


def _reason(error: ssl.SSLError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the certificate is not accepted: {error.verify_message}"
    return (error.reason or str(error)).replace("_", " ").lower()
