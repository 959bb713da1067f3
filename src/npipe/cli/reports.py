"""What `npipe ls`, `npipe info NAME` and `npipe metrics` have in common: whom they ask, and how they tell of it."""

from __future__ import annotations

import contextlib
import dataclasses
import re
import time
from typing import TYPE_CHECKING, Any

import click

import npipe
from npipe._text import printable
from npipe.cli.statuses import status_of
from npipe.cli.units import size_text, span_text
from npipe.cli.verdicts import warnings_of
from npipe.errors import error_from_code

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = [
    "as_json",
    "complete_name",
    "gather",
    "host_of",
    "inspect_listed",
    "lines_of",
    "moment",
    "owner_status",
    "tree_lines",
]

_HOST = re.compile(r"\\\\([^\\]+)(?:\\(?:pipe\\?)?)?", re.IGNORECASE)
_OWN, _LITERAL = "\\\\.\\", "\\\\?\\"


def complete_name(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[str]:
    """Return the names of pipes that begin so, for the shell's completion; none that would need quoting in it."""
    try:
        names = [pipe.name.removeprefix("\\\\.\\pipe\\") for pipe in npipe.list_pipes()]
    except npipe.PipeError:
        return []
    return [name for name in names if name.startswith(incomplete) and re.fullmatch(r"[\w.\-+@%,:]+", name)]


def host_of(where: str | None) -> str | None:
    r"""Return the host of `\\HOST\pipe\`; None for this machine."""
    if where is None:
        return None
    found = _HOST.fullmatch(where.replace("/", "\\"))
    if found is None:
        raise click.BadParameter(rf"write \\HOST\pipe\ , quoted for the shell, and not {where!r}.")
    return None if found[1] in (".", "?") else found[1]


def gather(names: Iterable[str] | None = None) -> list[npipe.PipeReport]:
    """Return what the owners of these pipes tell, or of all; one that goes meanwhile is left out where all are."""
    if names is not None:
        return [npipe.inspect(name) for name in names]
    reports = []
    for name in dict.fromkeys(pipe.name for pipe in npipe.list_pipes()):
        with contextlib.suppress(npipe.PipeNotFoundError):
            reports.append(inspect_listed(name))
    return reports


def inspect_listed(name: str) -> npipe.PipeReport:
    """Return what the owners of a pipe tell that a listing has told of. Raises PipeNotFoundError (2)."""
    # Taken literally: a listing may have names that only that form can write.
    return dataclasses.replace(npipe.inspect(name.replace(_OWN, _LITERAL, 1)), name=name)


def owner_status(reports: Iterable[npipe.PipeReport]) -> int:
    """Return the exit status for owners that tell nothing, if nobody tells anything; else 0."""
    codes = [owner.code for report in reports for owner in report.owners]
    return status_of(error_from_code(codes[0])) if codes and all(codes) else 0


def moment(since: float | None) -> str:
    """Return a moment in this place's time; an owner may say anything."""
    try:
        return "" if since is None else time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(since))
    except (ValueError, OverflowError, OSError):
        return "?"


def _limit(report: npipe.PipeReport) -> str:
    return "no limit" if report.max_instances is None else f"at most {report.max_instances}"


def _pipe_line(report: npipe.PipeReport) -> str:
    instances = "1 instance" if report.instances == 1 else f"{report.instances} instances"
    told = [report.type or "", report.direction or "", f"{instances}, {_limit(report)}"]
    return f"{printable(report.name)}: " + ", ".join(filter(None, told))


def _owner_line(owner: npipe.OwnerReport) -> str:
    line = f"process {owner.pid} of {printable(owner.user)}"
    if owner.program:
        line += f": {printable(owner.program)}"
    return line


def _connection_line(one: npipe.ConnectionReport) -> str:
    if one.remote:
        return "client on another machine"
    line = f"client {one.pid} of {printable(one.user or '?')}"
    return line + (f": {printable(one.program)}" if one.program else " (its process has ended)")


def _ended(owner: npipe.OwnerReport) -> str:
    return f", {owner.ended} of them ended" if owner.ended else ""


def _moved(stats: npipe.PipeStats | npipe.Totals) -> Iterator[str]:
    yield f"in {size_text(stats.bytes_received)} in {stats.messages_received} messages"
    yield f"out {size_text(stats.bytes_sent)} in {stats.messages_sent} messages"


def _waiting(one: npipe.ConnectionReport) -> Iterator[str]:
    stats = one.stats
    if stats.unread:
        yield f"{size_text(stats.unread)} unread by the server"
    if stats.unread_by_peer or stats.unread_messages_by_peer:
        count = f" in {stats.unread_messages_by_peer} messages" if stats.unread_messages_by_peer else ""
        yield f"{size_text(stats.unread_by_peer)}{count} unread by the client"
    for what, pending, spent in (
        ("read", stats.pending_reads, stats.reading_for),
        ("write", stats.pending_writes, stats.writing_for),
    ):
        if pending or spent is not None:
            asleep = "" if spent is None else f", asleep for {span_text(spent)}"
            yield f"server waits: {pending} {what}{'s' if pending != 1 else ''}{asleep}"
    if one.left:  # what it said of itself is over
        return
    if stats.peer_waits_to_read:
        yield "client waits for data"
    if stats.peer_waits_to_write:
        yield "client waits for room"


def tree_lines(report: npipe.PipeReport) -> Iterator[tuple[int, str]]:
    """Yield the lines of a pipe's tree, each with its depth: the pipe, its owners, their clients."""
    yield 0, _pipe_line(report)
    for text in warnings_of(report):
        yield 1, f"! {text}"
    for owner in report.owners:
        yield 1, _owner_line(owner)
        if owner.problem is not None:
            yield 2, owner.problem
        for one in owner.connections:
            left = ["its end is closed"] if one.left else []
            told = [f"since {moment(one.stats.since)}", *left, *_moved(one.stats), *_waiting(one)]
            yield 2, "; ".join([_connection_line(one), *told])


def lines_of(report: npipe.PipeReport) -> Iterator[str]:
    """Yield what `npipe info NAME` prints."""
    yield f"name: {printable(report.name)}"
    if report.type is not None:
        yield f"type: {report.type}"
        yield f"direction: {report.direction}"
    yield f"instances: {report.instances}, {_limit(report)}"
    for text in warnings_of(report):
        yield f"! {text}"
    if not report.owners:
        yield "owners: the system does not tell of them, nor of clients; to ask for the rest is to connect"
    for owner in report.owners:
        yield ""
        yield _owner_line(owner)
        if owner.problem is not None:
            yield f"  {owner.problem}"
            if owner.since is None:
                continue
        yield f"  since: {moment(owner.since)}"
        connected = f"{owner.totals.connected} connected{_ended(owner)}"
        yield f"  instances: {owner.instances}, {owner.listening} listening, {connected}"
        yield f"  quotas: in {size_text(owner.in_buffer_size)}, out {size_text(owner.out_buffer_size)}"
        yield f"  clients that wait for an instance: {owner.waiting}"
        yield f"  connections so far: {owner.totals.connections}, {', '.join(_moved(owner.totals))}"
        for one in owner.connections:
            yield f"  {_connection_line(one)}"
            yield f"    since: {moment(one.stats.since)}{', its end is closed' if one.left else ''}"
            yield f"    moved: {', '.join(_moved(one.stats))}{' (on the move)' if one.rough else ''}"
            for text in _waiting(one):
                yield f"    {text}"


def as_json(report: npipe.PipeReport) -> dict[str, Any]:
    """Return a report as JSON has it: with `warnings`, and each owner's `ended`."""
    told = dataclasses.asdict(report)
    for owner, known in zip(report.owners, told["owners"], strict=True):
        known["ended"] = owner.ended
    return told | {"warnings": warnings_of(report)}
