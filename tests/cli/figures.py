"""What owners tell of their pipes, made up: a connection's counts, connections, owners, pipes."""

from __future__ import annotations

from npipe.figures import ConnectionReport, OwnerReport, PipeReport, PipeStats, Totals


def stats(
    received: int = 0,
    sent: int = 0,
    *,
    unread: int = 0,
    by_peer: int = 0,
    reads: int = 0,
    writes: int = 0,
    since: float = 1000.0,
    reading_for: float | None = None,
    writing_for: float | None = None,
    peer_reads: bool = False,
) -> PipeStats:
    return PipeStats(
        since=since,
        bytes_received=received,
        messages_received=received // 10,
        unread=unread,
        bytes_sent=sent,
        messages_sent=sent // 10,
        unread_by_peer=by_peer,
        unread_messages_by_peer=0,
        pending_reads=reads,
        pending_writes=writes,
        reading_for=reading_for,
        writing_for=writing_for,
        peer_waits_to_read=peer_reads,
        peer_waits_to_write=False,
        waits=0,
    )


def connection(
    number: int,
    counts: PipeStats | None = None,
    *,
    pid: int = 7,
    left: bool = False,
    remote: bool = False,
    quota: int = 100,
) -> ConnectionReport:
    return ConnectionReport(
        number=number,
        pid=None if remote else pid,
        uid=None if remote else 0,
        user=None if remote else "anna",
        program=None if remote else "till",
        remote=remote,
        left=left,
        in_buffer_size=quota,
        out_buffer_size=quota,
        stats=counts or stats(),
        rough=False,
    )


def owner(
    *connections: ConnectionReport,
    ended: int = 0,
    pid: int = 5,
    since: float | None = 900.0,
    code: int = 0,
    listening: int = 0,
    waiting: int = 0,
) -> OwnerReport:
    """An owner; `ended`: bytes that connections moved to it which have ended."""
    live = [one.stats for one in connections]
    return OwnerReport(
        pid=pid,
        uid=0,
        user="anna",
        program="shop",
        code=code,
        problem=None if code == 0 else "it does not answer: it is stopped, or very busy",
        instances=len(connections) + listening,
        listening=listening,
        waiting=waiting,
        in_buffer_size=100,
        out_buffer_size=100,
        since=since,
        totals=Totals(
            connected=len(connections),
            connections=len(connections),
            bytes_received=ended + sum(one.bytes_received for one in live),
            messages_received=sum(one.messages_received for one in live),
            bytes_sent=sum(one.bytes_sent for one in live),
            messages_sent=sum(one.messages_sent for one in live),
            waits=0,
        ),
        connections=connections,
        answered_in=0.001 if code == 0 else None,
    )


def pipe(*owners: OwnerReport, limit: int | None = None, name: str = "shop") -> PipeReport:
    return PipeReport(
        name=rf"\\.\pipe\{name}",
        type="message",
        direction="duplex",
        instances=sum(one.instances for one in owners),
        max_instances=limit,
        owners=owners,
    )
