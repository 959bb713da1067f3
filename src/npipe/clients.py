"""What a server tells of its clients, the same for threads and for event loops."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn, Self

from npipe._display import literal, refuse_construction
from npipe._process import refuse_copy
from npipe.options import handler_signature

if TYPE_CHECKING:
    from collections.abc import Callable

    from npipe.options import Peer

__all__ = ["Connection", "ServerStats", "describe_server", "takes_connection"]


class Connection(ABC):
    """One client of a server, for a handler that takes it, and for `on_connect` and `on_disconnect`."""

    if not TYPE_CHECKING:

        def __new__(cls, *_: object, **__: object) -> Self:  # noqa: D102 - nobody is to call it
            if cls is Connection:
                refuse_construction("npipe.Connection")
            return super().__new__(cls)

    def __init__(self, number: int) -> None:
        self.number = number
        """1 for the server's first client, and so on."""
        self.requests = 0
        """How many requests have been answered."""
        self.data: dict[Any, Any] = {}
        """The program's own, for as long as the client stays: a login, a counter, a position."""
        self._peer: Peer | None = None

    def __reduce__(self) -> NoReturn:
        """Raise TypeError: a connection can be neither pickled nor copied."""
        refuse_copy(self, "pass its number, or who its peer is")

    @abstractmethod
    def _ask_peer(self) -> Peer:
        """Who the client is; raises PipeError when that cannot be told any more."""

    @property
    def peer(self) -> Peer:
        """Who the client is, asked once; raises PipeError (233 or 6, say) if it had left before."""
        if self._peer is None:
            self._peer = self._ask_peer()
        return self._peer

    @property
    def pid(self) -> int:
        """The client's process id, 0 when it cannot be seen from here. Raises as `peer`."""
        return self.peer.pid

    @property
    def uid(self) -> int | None:
        """The client's effective user id; None where there is no such number (Windows). Raises as `peer`."""
        return self.peer.uid

    @property
    def user(self) -> str | None:
        """The name of the client's user; None when unknown. Raises as `peer`."""
        return self.peer.user

    def __repr__(self) -> str:
        who = "" if self._peer is None else f", process {self._peer.pid} of {self._peer.user or self._peer.uid}"
        return f"<Connection {self.number}{who}, {_counted(self.requests, 'request')}>"


@dataclass(frozen=True)
class ServerStats:
    """What a server has done since it was made."""

    answered: int
    """Requests whose answer has been written, or that the handler gave none to."""
    failed: int
    """Requests whose handler raised, or returned what is no answer."""
    clients: int
    """Clients that have come, those that have left included."""


def describe_server(kind: str, name: str, *, closed: bool, clients: int, stats: ServerStats) -> str:
    """Return a server's repr."""
    state = "closed" if closed else "listening"
    requests = _counted(stats.answered, "request")
    return (
        f"<{kind} {literal(name)}, {state}, {_counted(clients, 'client')}, {requests} answered, {stats.failed} failed>"
    )


def _counted(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def takes_connection(handler: Callable[..., Any]) -> bool:
    """Whether a handler is called with the connection too: it takes two arguments.

    So does one whose second parameter has no default, or is called `connection`; a second one with a default of its own
    (`zlib.compress`'s level) is not meant.
    """
    signature = handler_signature(handler)
    if signature is None:
        return False
    positional = [
        one for one in signature.parameters.values() if one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD)
    ]
    if len(positional) < 2:
        return False
    return positional[1].default is inspect.Parameter.empty or positional[1].name == "connection"
