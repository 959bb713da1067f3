"""`npipe metrics`: counters as OpenMetrics text, once or for who scrapes them."""

from __future__ import annotations

import json
import logging
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socket import AF_INET6
from typing import TYPE_CHECKING, NamedTuple

import click

import npipe
from npipe._text import printable
from npipe.cli.common import examples
from npipe.cli.reports import complete_name, gather
from npipe.cli.statuses import CANNOT, DENIED, NOT_THERE, by_kind, statuses

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

__all__ = ["json_metrics", "metrics", "open_metrics"]

_log = logging.getLogger("npipe.metrics")

_TYPE = "application/openmetrics-text; version=1.0.0; charset=utf-8"
_PATIENCE = 10.0  # seconds for a request
_LOOPBACK = "127.0.0.1"
_HIGHEST_PORT = 65535

Labels = tuple[tuple[str, str], ...]


class _Family(NamedTuple):
    name: str
    kind: str
    help: str
    value: Callable[[npipe.OwnerReport], Iterable[tuple[Labels, float]]]


def _one(value: Callable[[npipe.OwnerReport], float]) -> Callable[[npipe.OwnerReport], Iterable[tuple[Labels, float]]]:
    return lambda owner: [((), value(owner))]


def _ways(
    inbound: Callable[[npipe.OwnerReport], float], outbound: Callable[[npipe.OwnerReport], float]
) -> Callable[[npipe.OwnerReport], Iterable[tuple[Labels, float]]]:
    return lambda owner: [((("direction", "in"),), inbound(owner)), ((("direction", "out"),), outbound(owner))]


def _summed(owner: npipe.OwnerReport, field: str) -> float:
    return float(sum(getattr(one.stats, field) for one in owner.connections))


_FAMILIES = (
    _Family("npipe_instances", "gauge", "Instances of the pipe in this process.", _one(lambda o: o.instances)),
    _Family("npipe_listening", "gauge", "Instances that listen for a client.", _one(lambda o: o.listening)),
    _Family("npipe_connected", "gauge", "Clients that are connected.", _one(lambda o: o.totals.connected)),
    _Family(
        "npipe_ended_connections",
        "gauge",
        "Connected instances whose client has gone, and that the server has not released.",
        _one(lambda o: o.ended),
    ),
    _Family("npipe_waiting_clients", "gauge", "Clients that wait for an instance.", _one(lambda o: o.waiting)),
    _Family("npipe_connections", "counter", "Clients that were connected.", _one(lambda o: o.totals.connections)),
    _Family(
        "npipe_bytes",
        "counter",
        "Payload bytes: in, read by the server; out, written by it.",
        _ways(lambda o: o.totals.bytes_received, lambda o: o.totals.bytes_sent),
    ),
    _Family(
        "npipe_messages",
        "counter",
        "Messages, or writes of a byte pipe: in, read by the server; out, written by it.",
        _ways(lambda o: o.totals.messages_received, lambda o: o.totals.messages_sent),
    ),
    _Family("npipe_waits", "counter", "How often a thread of the server slept.", _one(lambda o: o.totals.waits)),
    _Family(
        "npipe_unread_bytes",
        "gauge",
        "Bytes that were written and are not read: in, by the server; out, by clients.",
        _ways(lambda o: _summed(o, "unread"), lambda o: _summed(o, "unread_by_peer")),
    ),
    _Family(
        "npipe_pending",
        "gauge",
        "Calls of the server that wait: in, reads; out, writes.",
        _ways(lambda o: _summed(o, "pending_reads"), lambda o: _summed(o, "pending_writes")),
    ),
    _Family(
        "npipe_quota_bytes",
        "gauge",
        "Buffer sizes of the newest instance.",
        _ways(lambda o: o.in_buffer_size, lambda o: o.out_buffer_size),
    ),
)


def _escaped(text: str) -> str:
    # Printable first: the text may be looked at on a terminal.
    return printable(text).replace("\\", "\\\\").replace('"', '\\"')


def _sample(name: str, labels: Labels, value: float) -> str:
    inside = ",".join(f'{key}="{_escaped(text)}"' for key, text in labels)
    return f"{name}{{{inside}}} {value:.0f}\n"


def _told(reports: Iterable[npipe.PipeReport]) -> list[tuple[Labels, npipe.OwnerReport]]:
    return [
        ((("pipe", report.name), ("pid", str(owner.pid)), ("user", owner.user)), owner)
        for report in reports
        for owner in report.owners
    ]


def json_metrics(reports: Iterable[npipe.PipeReport]) -> list[dict[str, object]]:
    """Return the samples of open_metrics as objects: name, type, labels as they are, value."""
    told = _told(reports)
    up = _Family("npipe_up", "gauge", "", _one(lambda owner: int(owner.code == 0)))
    return [
        {
            "name": family.name + ("_total" if family.kind == "counter" else ""),
            "type": family.kind,
            "labels": dict(labels + more),
            "value": int(value),
        }
        for family in (up, *_FAMILIES)
        for labels, owner in told
        if owner.code == 0 or family is up
        for more, value in family.value(owner)
    ]


def open_metrics(reports: Iterable[npipe.PipeReport]) -> str:
    """Return OpenMetrics text of what the owners of pipes tell."""
    told = _told(reports)

    def lines() -> Iterator[str]:
        yield "# TYPE npipe_up gauge\n# HELP npipe_up Whether the process told its counts.\n"
        for labels, owner in told:
            yield _sample("npipe_up", labels, int(owner.code == 0))
        for family in _FAMILIES:
            yield f"# TYPE {family.name} {family.kind}\n"
            if family.name.endswith("_bytes") and family.kind == "gauge":
                yield f"# UNIT {family.name} bytes\n"
            yield f"# HELP {family.name} {family.help}\n"
            suffix = "_total" if family.kind == "counter" else ""
            for labels, owner in told:
                if owner.code == 0:
                    for more, value in family.value(owner):
                        yield _sample(family.name + suffix, labels + more, value)
        yield "# EOF\n"

    return "".join(lines())


def _address(_ctx: click.Context, _param: click.Parameter, value: str | None) -> tuple[str, int] | None:
    """Accept PORT, :PORT, HOST:PORT and [HOST]:PORT."""
    if value is None:
        return None
    host, _, port = value.rpartition(":")
    if not port.isascii() or not port.isdigit() or int(port) > _HIGHEST_PORT:
        raise click.BadParameter(f"{value!r} is no address: write PORT, HOST:PORT or [HOST]:PORT.")
    return host.removeprefix("[").removesuffix("]") or _LOOPBACK, int(port)


_EXAMPLES = examples(r"""Examples:
  npipe metrics                       once, for a look
  npipe metrics mynamedpipe           of one pipe
  npipe metrics --listen 9464         for a scraper on this machine
  curl -s http://127.0.0.1:9464/metrics
""")
_STATUSES = statuses(DENIED, CANNOT, saying={NOT_THERE: "there is no such pipe"})


@click.command(epilog=f"{_EXAMPLES}\n{_STATUSES}", short_help="Print what pipes have moved, as OpenMetrics text.")
@click.argument("names", nargs=-1, metavar="[NAME]...", shell_complete=complete_name)
@click.option(
    "--listen",
    "address",
    callback=_address,
    metavar="[HOST:]PORT",
    help="Serve them by HTTP at /metrics until Ctrl-C; without HOST to this machine alone. Port 0: any that is free.",
)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array: an object for each value, once.")
def metrics(names: tuple[str, ...], address: tuple[str, int] | None, as_json: bool) -> None:
    r"""Print what pipes have moved, as OpenMetrics text: for Prometheus and whatever reads it.

    Of the pipes NAME, or of all whose owner this user is (of all there are for root). Each process that serves one is
    asked anew, which disturbs nobody; one that does not tell has npipe_up 0.
    """
    wanted = list(names) or None
    if address is None:
        with by_kind():
            reports = gather(wanted)
        click.echo(json.dumps(json_metrics(reports), indent=2) + "\n" if as_json else open_metrics(reports), nl=False)
        return
    if as_json:
        raise click.UsageError("--json and --listen exclude each other.")
    _serve(wanted, address)


def _serve(names: list[str] | None, address: tuple[str, int]) -> None:
    class Handler(BaseHTTPRequestHandler):
        timeout = _PATIENCE
        server_version = f"npipe/{npipe.__version__}"
        sys_version = ""

        def do_GET(self) -> None:
            if self.path.partition("?")[0] not in ("/", "/metrics"):
                self.send_error(HTTPStatus.NOT_FOUND)
                return
            try:
                body = open_metrics(gather(names)).encode("utf-8", "backslashreplace")
            except npipe.PipeError as error:
                _log.warning("%s", error)
                self.send_error(HTTPStatus.SERVICE_UNAVAILABLE, explain=printable(str(error)))
                return
            self.send_response(HTTPStatus.OK)
            self.send_header("Content-Type", _TYPE)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - http.server's name
            _log.info("%s %s", self.address_string(), printable(format % args))

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, _request: object, client_address: object) -> None:
            _log.info("a request of %s ended early", client_address, exc_info=True)

    if ":" in address[0]:
        Server.address_family = AF_INET6
    with Server(address, Handler) as server:
        host, port = server.server_address[:2]
        shown = f"[{host!s}]" if ":" in str(host) else str(host)
        click.echo(f"npipe: metrics at http://{shown}:{port}/metrics", err=True)
        server.serve_forever()
