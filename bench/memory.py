"""Memory that a connection still holds after much traffic. `python -m bench.memory` measures this alone."""

from __future__ import annotations

import contextlib
import sys
import time
from typing import TYPE_CHECKING

from .fleet import Fleet, Settings
from .measure import Case, Outcome, Quantity
from .names import HELD, HELD_OWN, HELD_SHARED
from .processes import Ends, PeerFailedError
from .tasks import SINK

if TYPE_CHECKING:
    from .processes import Session

CONNECTIONS = 8
_SIZE = 1 << 16
_WARM = 1 << 24  # bytes through each of as many that are closed before the first look: what a process holds anyway


class _Held:
    """What the two processes of a peer hold."""

    def __init__(self, ends: Ends) -> None:
        found = [child.ask("held") for child in (ends.server, *ends.clients)]
        blocks: dict[str, int] = {}
        for one in found:
            blocks |= one["blocks"]
        self.own = sum(one["own"] for one in found)
        # Pages that both have mapped are shared out between them; a file's blocks are there, mapped or not.
        self.shared = max(sum(one["shared"] for one in found), sum(blocks.values()))


def _traffic(peer: str, ends: Ends, index: int, traffic: int) -> None:
    """Open a connection, which the server serves one order on and then holds without a thread, and use it once."""
    ends.client.ask("connect", peer=peer, address=ends.address, first=index, greet=False, timeout=60)
    ends.client.ask("traffic", kind=SINK, size=_SIZE, count=max(2, traffic // _SIZE), timeout=120)


def memory(session: Session, settings: Settings) -> list[Case]:
    """Let much go through some connections, be idle, and look at what is held for each of them."""

    def start(peer: str) -> Ends:
        ends = session.start(peer, "keep", apart=True, expected=2 * CONNECTIONS)
        for index in range(CONNECTIONS):
            _traffic(peer, ends, index, min(_WARM, settings.traffic))
        for child in (ends.client, ends.server):
            child.ask("disconnect")
        return ends

    with Fleet("memory", settings.peers, start) as fleet:
        time.sleep(min(2.0, settings.idle_seconds))  # what was closed is put away
        before: dict[str, _Held] = {}
        after: dict[str, _Held] = {}
        for peer, ends in list(fleet.running.items()):
            try:
                before[peer] = _Held(ends)
                for index in range(CONNECTIONS):
                    _traffic(peer, ends, CONNECTIONS + index, settings.traffic)
            except PeerFailedError as error:
                fleet.fail(peer, str(error))
        time.sleep(settings.idle_seconds)
        for peer, ends in list(fleet.running.items()):
            try:
                after[peer] = _Held(ends)
            except PeerFailedError as error:
                fleet.fail(peer, str(error))
        own = {peer: max(0, after[peer].own - before[peer].own) / CONNECTIONS for peer in fleet.running}
        shared = {peer: (after[peer].shared - before[peer].shared) / CONNECTIONS for peer in fleet.running}
        columns = ((HELD, {peer: own[peer] + shared[peer] for peer in own}), (HELD_OWN, own), (HELD_SHARED, shared))
        return [
            fleet.case(label, Quantity.MEMORY, {peer: Outcome([max(0.0, value)]) for peer, value in column.items()})
            for label, column in columns
        ]


def main() -> int:
    from .__main__ import main as all_of_it

    return all_of_it(["--only", "memory", *sys.argv[1:]])


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        sys.exit(main())
    sys.exit(130)
