"""What is wrong with a pipe, and what to do: as far as the counts that its owners tell prove it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from npipe.cli.units import size_text, span_text
from npipe.errors import WinError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from npipe.figures import ConnectionReport, OwnerReport, PipeReport

__all__ = ["warnings_of"]

_LONG: Final = 5.0  # seconds that a write waits, and its reader has read nothing meanwhile
_NAMED: Final = 3  # clients, of many


def warnings_of(report: PipeReport) -> list[str]:
    """Return a sentence for each thing that is wrong just now; nothing of what the owners have not told."""
    return [*_of_pipe(report), *(text for owner in report.owners for text in _of_owner(owner, report))]


# ---- Of the pipe as a whole


def _of_pipe(report: PipeReport) -> Iterator[str]:
    """Yield what is wrong with its instances. One owner that does not tell may be the one that listens."""
    owners = report.owners
    if not owners or any(owner.code for owner in owners) or any(owner.listening for owner in owners):
        return
    waiting = sum(owner.waiting for owner in owners)
    queue = "" if not waiting else "1 client waits" if waiting == 1 else f"{waiting} clients wait"
    limit = report.max_instances
    if limit is not None and report.instances >= limit:
        if queue:
            full = "the one instance is" if limit == 1 else f"all {limit} instances are"
            ended = any(owner.ended for owner in owners)
            cure = (
                "the server has to close the connections that have ended"
                if ended
                else "allow more (max_instances), or let the server end connections sooner"
            )
            yield f"{full} in use, and {queue} for one: {cure}"
        return
    room = "no instance listens, although there may be " + ("more" if limit is None else f"{limit}")
    if queue:
        yield f"{room}, and {queue} for one: the server has to accept, or create another instance"
    else:
        yield f"{room}: who connects now waits until the server accepts, or creates another instance"


# ---- Of one owner


def _of_owner(owner: OwnerReport, report: PipeReport) -> Iterator[str]:
    where = "" if len(report.owners) == 1 else f"process {owner.pid}: "
    if owner.code == WinError.SEM_TIMEOUT:
        yield (
            f"process {owner.pid} does not answer: who connects to it waits until it runs again, or has time"
            " (see whether it is stopped)"
        )
    ended = [one for one in owner.connections if one.left]
    live = [one for one in owner.connections if not one.left]
    if ended:
        yield f"{where}{_ended(ended)}"
    unread = [one for one in live if _is_full(one.stats.unread, one.in_buffer_size) and not _server_reads(one)]
    if unread:
        yield f"{where}{_not_read_by_server(unread)}"
    unread = [one for one in live if _is_full(one.stats.unread_by_peer, one.out_buffer_size) and not _client_reads(one)]
    if unread:
        yield f"{where}{_not_read_by_client(unread)}"
    stuck = [one for one in live if one not in unread and (one.stats.writing_for or 0.0) >= _LONG]
    if stuck:
        yield f"{where}{_stuck(stuck)}"


def _is_full(unread: int, quota: int) -> bool:
    """Whether it has reached its quota; one of nothing is full with every message, and proves nothing."""
    return unread >= quota > 0


def _server_reads(one: ConnectionReport) -> bool:
    return one.stats.pending_reads > 0 or one.stats.reading_for is not None


def _client_reads(one: ConnectionReport) -> bool:
    return one.stats.peer_waits_to_read


def _client(one: ConnectionReport) -> str:
    return "a client on another machine" if one.remote else f"client {one.pid}"


def _clients(several: Sequence[ConnectionReport]) -> str:
    """Return `3 clients (901, 902, 903)`; not all of many."""
    named = [str(one.pid) for one in several if not one.remote]
    shown = [*dict.fromkeys(named)][:_NAMED]
    more = ", …" if len(set(named)) > _NAMED else ""
    return f"{len(several)} clients" + (f" ({', '.join(shown)}{more})" if shown else "")


def _ended(ended: Sequence[ConnectionReport]) -> str:
    if len(ended) == 1:
        what = f"the connection of {_client(ended[0])} has ended, and the server holds its instance"
    else:
        what = f"the connections of {_clients(ended)} have ended, and the server holds their instances"
    return f"{what}: it has to close or disconnect a pipe whose client has gone"


def _most(several: Sequence[ConnectionReport], value: Callable[[ConnectionReport], float | None]) -> float:
    return max(value(one) or 0.0 for one in several)


def _not_read_by_server(unread: Sequence[ConnectionReport]) -> str:
    if len(unread) == 1:
        one = unread[0]
        return (
            f"the server is not reading from {_client(one)}, and its quota is full ({size_text(one.stats.unread)}"
            " unread): it can write no more until the server reads"
        )
    return (
        f"the server is not reading from {_clients(unread)}, and their quotas are full:"
        " they can write no more until it reads"
    )


def _not_read_by_client(unread: Sequence[ConnectionReport]) -> str:
    slept = _most(unread, lambda one: one.stats.writing_for)
    waited = f" (a write has waited for {span_text(slept)})" if slept >= _LONG else ""
    if len(unread) == 1:
        one = unread[0]
        return (
            f"{_client(one)} is not reading, and its quota is full ({size_text(one.stats.unread_by_peer)} unread):"
            f" the server can write no more to it until it reads{waited}"
        )
    return (
        f"{_clients(unread)} are not reading, and their quotas are full:"
        f" the server can write no more to them until they read{waited}"
    )


def _stuck(stuck: Sequence[ConnectionReport]) -> str:
    slept = span_text(_most(stuck, lambda one: one.stats.writing_for))
    if len(stuck) == 1:
        return f"a write or flush of the server has waited for {slept} until {_client(stuck[0])} reads: it has to read"
    return f"writes or flushes of the server have waited for up to {slept} until {_clients(stuck)} read: they have to"
