"""`npipe doctor`: whether pipes work on this machine, and what to do if they do not."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

import npipe
from npipe._text import printable
from npipe.cli.checkup.findings import Finding, ok, problem, run_checks, warning, worst
from npipe.cli.checkup.neighbours import check_extras, check_samba, check_servers
from npipe.cli.checkup.trip import check_round_trip
from npipe.cli.common import examples
from npipe.cli.statuses import FAILED as _FAILED
from npipe.cli.statuses import statuses

if TYPE_CHECKING:
    from collections.abc import Iterator

    from npipe.cli.checkup.findings import Check

__all__ = ["doctor"]

_COLOURS = {"ok": "green", "warning": "yellow", "problem": "bold red"}
_VERDICTS = {
    "ok": "Pipes work here",
    "warning": "Pipes work here, but see the warnings",
    "problem": "Not in order, see the problems",
}


_EXAMPLES = examples(r"""Examples:
  npipe doctor
  sudo -u www-data NPIPE_ROOT=/srv/pipes npipe doctor
  npipe doctor --json | jq '.findings[] | select(.status != "ok")'
""")


_STATUSES = statuses(saying={0: "pipes work here", _FAILED: "there is a problem, or another failure"})


@click.command(epilog=f"{_EXAMPLES}\n{_STATUSES}")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object; where nothing is to do, advice is null.")
@click.pass_context
def doctor(context: click.Context, as_json: bool) -> None:
    r"""Check this machine, and say what to do.

    Each finding is a line: ok, a warning (some programs will run into it) or a problem (pipes do not work). What is
    looked at: the root folder, limits, what the kernel lets this process do, containers, Samba, the extras, the
    versions of the servers that run, and a round trip between two processes. Limits and rights are those of the user
    who runs it: ask as the user, and in the container, that the program in question runs as.

    Nothing is changed.
    """
    findings: list[Finding] = list(run_checks(_checks()))
    status = worst(findings)
    if as_json:
        known = {
            "version": npipe.__version__,
            "status": status,
            "findings": [asdict(finding) for finding in findings],
        }
        click.echo(json.dumps(known, indent=2))
    elif sys.stdout.isatty():
        _print_table(findings)
    else:
        for finding in findings:
            fields = (finding.status, finding.check, finding.found, finding.advice or "")
            click.echo("\t".join(map(printable, fields)))
    context.exit(_FAILED if status == "problem" else 0)


def _checks() -> dict[str, Check]:
    checks: dict[str, Check] = {"npipe": _itself}
    if sys.platform == "win32":
        checks["processors"] = _processors
        checks["pywin32"] = _pywin32
    else:
        from npipe.cli.checkup.kernel import check_container, check_kernel
        from npipe.cli.checkup.limits import check_limits, check_processors
        from npipe.cli.checkup.root import check_root

        checks |= {
            "root": check_root,
            "limits": check_limits,
            "processors": check_processors,
            "kernel": check_kernel,
            "container": check_container,
            "servers": check_servers,
            "Samba": check_samba,
        }
    return checks | {"extras": check_extras, "round trip": check_round_trip}


def _itself() -> Iterator[Finding]:
    free = "" if getattr(sys, "_is_gil_enabled", lambda: True)() else ", free-threaded"
    python = f"{platform.python_implementation()} {platform.python_version()}{free}"
    yield ok("npipe", f"{npipe.__version__}, {python}, {os.path.dirname(npipe.__file__)}")  # noqa: PTH120 - a text


def _processors() -> Iterator[Finding]:
    yield ok("processors", str(os.cpu_count()))


def _pywin32() -> Iterator[Finding]:
    try:
        yield ok("pywin32", importlib.metadata.version("pywin32"))
    except importlib.metadata.PackageNotFoundError:
        yield problem("pywin32", "not installed", "pip install pywin32")
    try:
        pipes = len(npipe.list_pipes())
    except npipe.PipeError as error:
        yield warning("pipes", str(error), r"look at \\.\pipe\ by hand")
    else:
        yield ok("pipes", f"{pipes}; the system keeps the names, and there is no root folder")


def _print_table(findings: list[Finding]) -> None:
    from rich.console import Console
    from rich.padding import Padding
    from rich.text import Text

    console = Console(highlight=False)
    for finding in findings:
        colour = _COLOURS[finding.status]
        line = Text.assemble((f"{finding.status:8}", colour), (f"{finding.check}: ", "bold"), printable(finding.found))
        console.print(line)
        if finding.advice is not None:
            console.print(Padding(Text(f"→ {printable(finding.advice)}"), (0, 0, 0, 8)))
    counts = {status: sum(finding.status == status for finding in findings) for status in _COLOURS}
    problems, warnings = (_number_of(counts[status], status) for status in ("problem", "warning"))
    console.print(f"{_VERDICTS[worst(findings)]}: {problems}, {warnings}, {counts['ok']} ok")


def _number_of(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"
