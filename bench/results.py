"""Numbers that a run has measured, in files beside the pages: what goals are judged by and plots are drawn from."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from .measure import Case, Outcome, Quantity
from .processes import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

FOLDER = ROOT / "docs" / "benchmarks"
_FORMAT = 1


def save(path: Path, machine: list[str], cases: Iterable[Case], **more: Any) -> None:
    """Write the cases of a run, with four digits of each number; ``more`` is kept beside them."""
    head = {"format": _FORMAT, "machine": machine, **more}
    lines = [f" {_json(key)}: {_json(value)}," for key, value in head.items()]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(["{", *lines, ' "cases": [', ",\n".join(map(_row, cases)), " ]", "}"]) + "\n", "utf-8")


def _row(case: Case) -> str:
    """Return a case with a line for each outcome, so that a change of one is a change of one line."""
    outcomes = []
    for peer, outcome in case.outcomes.items():
        values: dict[str, Any] = {"values": [float(f"{value:.4g}") for value in outcome.values]}
        outcomes.append(
            f"    {_json(peer)}: {_json(values | {'failure': outcome.failure} if outcome.failure else values)}"
        )
    about = {"scenario": case.scenario, "label": case.label, "quantity": case.quantity.name, "size": case.size}
    return f'  {_json(about)[:-1]}, "outcomes": {{\n' + ",\n".join(outcomes) + "}}"


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def load(path: Path) -> dict[str, Any]:
    """Return what `save` wrote; its ``cases`` are Cases.

    Raises ValueError when the file is of another form.
    """
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    if content.get("format") != _FORMAT:
        raise ValueError(f"{path} is no file of the form {_FORMAT}: {content.get('format')!r}")
    content["cases"] = [
        Case(
            row["scenario"],
            row["label"],
            Quantity[row["quantity"]],
            row["size"],
            {peer: Outcome(**outcome) for peer, outcome in row["outcomes"].items()},
        )
        for row in content["cases"]
    ]
    return content


def all_cases(folder: Path = FOLDER) -> list[Case]:
    """Return the cases of all files of a folder."""
    return [case for path in sorted(folder.glob("*.json")) for case in load(path)["cases"]]
