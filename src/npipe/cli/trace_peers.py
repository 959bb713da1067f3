"""Who is at the other end of connections that were there when `npipe trace` began."""

from __future__ import annotations

from typing import TYPE_CHECKING

import npipe
from npipe.cli.trace_output import Peer

if TYPE_CHECKING:
    from npipe.tracing.events import Event

__all__ = ["Peers"]


class Peers:
    """Asks each process that serves a pipe once: by then it has told of all that were there."""

    def __init__(self) -> None:
        self._asked: dict[tuple[str, int], dict[int, Peer]] = {}

    def of(self, event: Event) -> Peer | None:
        """Return who it is; None where nobody tells."""
        key = event.pipe, event.owner
        if key not in self._asked:
            self._asked[key] = _ask(event.pipe, event.owner)
        return self._asked[key].get(event.peer)


def _ask(pipe: str, pid: int) -> dict[int, Peer]:
    try:
        report = npipe.inspect(pipe)
    except npipe.PipeError:  # it has gone meanwhile
        return {}
    connections = [one for owner in report.owners if owner.pid == pid for one in owner.connections]
    return {one.pid: Peer(one.user, one.program) for one in connections if one.pid is not None}
