"""What a check has found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["Check", "Finding", "Status", "ok", "problem", "run_checks", "warning", "worst"]

Status: TypeAlias = Literal["ok", "warning", "problem"]


@dataclass(frozen=True)
class Finding:
    """One line of the report."""

    check: str
    """What was looked at, in a word or two: always the same ones, for programs."""
    status: Status
    found: str
    advice: str | None = None
    """What to do; None where nothing has to be done."""


Check: TypeAlias = "Callable[[], Iterator[Finding]]"


def ok(check: str, found: str, advice: str | None = None) -> Finding:
    """Return a finding that asks for nothing; `advice` is for those who want more."""
    return Finding(check, "ok", found, advice)


def warning(check: str, found: str, advice: str) -> Finding:
    """Return a finding that some programs will run into."""
    return Finding(check, "warning", found, advice)


def problem(check: str, found: str, advice: str) -> Finding:
    """Return a finding with which pipes do not work."""
    return Finding(check, "problem", found, advice)


def worst(findings: list[Finding]) -> Status:
    """Return the worst status of all."""
    there = {finding.status for finding in findings}
    return "problem" if "problem" in there else "warning" if "warning" in there else "ok"


def run_checks(checks: dict[str, Check]) -> Iterator[Finding]:
    """Run all; one that the system does not let look is a finding too, and the others go on."""
    for name, check in checks.items():
        try:
            yield from check()
        except OSError as error:
            yield warning(name, f"it could not be looked at: {error}", "look at it by hand, or as another user")
