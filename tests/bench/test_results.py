"""Numbers: kept, judged and drawn."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from typing import TYPE_CHECKING

import pytest

from bench import goals, names, plots, results
from bench.measure import Case, Outcome, Quantity

if TYPE_CHECKING:
    from pathlib import Path


def case(scenario: str, label: str, quantity: Quantity, size: int = 0, **values: float) -> Case:
    """A column with one round of each peer, in four digits; the names of the peers are those of `names`."""
    outcomes = {getattr(names, peer): Outcome([float(f"{value:.4g}")]) for peer, value in values.items()}
    return Case(scenario, label, quantity, size, outcomes)


def some_cases() -> list[Case]:
    latency, rate = Quantity.LATENCY, Quantity.RATE
    tail = [float(f"{1e-6 * 2**n:.3g}") for n in range(len(names.TAIL))]
    return [
        case("roundtrip-apart", "64 B", latency, 64, NPIPE=0.6e-6, LIMIT=0.5e-6, LINE=0.3e-6, BASE=15e-6),
        *(
            case("oneway-apart", label, rate, size, NPIPE=9e6 / size, BASE=1e6 / size, COPY=1e7 / size)
            for size, label in names.SIZES.items()
        ),
        case("tail", "p50", latency, NPIPE=0.6e-6, BASE=15e-6),
        case("tail", "p99.9", latency, NPIPE=20e-6, BASE=90e-6),
        Case("tail-curve", "", latency, 64, {names.NPIPE: Outcome(tail), names.BASE: Outcome(tail[::-1])}),
        *(
            case("views", label, latency, size, NPIPE=0.7e-6, ICEORYX=4e-6, HAND=0.2e-6)
            for size, label in names.VIEW_SIZES.items()
        ),
        case("frames", "frames", rate, names.FRAME_BYTES, NPIPE=2000, OBJECTS=900, BASE=100, COPY=2900),
        case("objects", "64-byte objects, round trip", latency, OBJECTS=2e-6, BASE=20e-6),
        case("objects", "64-byte objects, one-way", latency, OBJECTS=2e-6, BASE=4e-6),
        *(
            Case(
                names.CROWDS,
                f"{clients} clients" + label,
                quantity,
                64,
                {server: Outcome([value * of]) for server, of in (("npipe.serve, threaded", 2), (names.CROWD_BASE, 1))},
            )
            for clients in (10, 100)
            for label, quantity, value in (
                ("", rate, 5e4),
                (": p99", latency, 1e-3),
                (f": {names.LEAST}", Quantity.SHARE, 0.4),
            )
        ),
        case("memory", names.HELD, Quantity.MEMORY, NPIPE=28 * 1024, BASE=0, PAIR=0, ICEORYX=2e6),
    ]


def test_numbers_are_read_as_they_were_written(tmp_path: Path) -> None:
    written = some_cases()
    written[0].outcomes["another"] = Outcome([1.0, 2.5], 'died: "status 9"')
    results.save(tmp_path / "one.json", ["a machine"], written[:3])
    results.save(tmp_path / "two.json", ["a machine"], written[3:])
    assert results.load(tmp_path / "one.json")["machine"] == ["a machine"]
    assert sorted(map(repr, results.all_cases(tmp_path))) == sorted(map(repr, written))


def test_numbers_of_another_form_are_refused(tmp_path: Path) -> None:
    (tmp_path / "main.json").write_text('{"format": 99, "cases": []}', encoding="utf-8")
    with pytest.raises(ValueError, match="is no file of the form"):
        results.all_cases(tmp_path)


def verdict(text: str, cases: list[Case]) -> goals.Goal:
    [goal] = [goal for goal in goals.judge(cases) if goal.text.startswith(text)]
    return goal


def test_a_goal_has_what_was_measured_the_bare_machine_and_a_verdict() -> None:
    goal = verdict("round trip, 64 B: at most 1.3 times", some_cases())
    assert goal.measured == "1.20 ×"
    assert goal.bare == "a word there and back in C: 0.30 µs"
    assert goal.reached
    assert not verdict("round trip, 64 B: the engine in C at most 1.5 times", some_cases()).reached


@pytest.mark.parametrize(
    ("text", "measured", "reached"),
    [
        ("one-way, 64 KiB, `recv`:", "90%", True),
        ("`reserve` and `recv_view`, 16 MiB: at most 1 µs", "0.70 µs", True),
        ("`reserve` and `recv_view`, 16 MiB: at least 4 times", "5.71 ×", True),
        ("the same: 16 MiB take no longer", "1.00 ×", True),
        ("frames of 1920×1080×3", "9.00 ×", True),
        ("64-byte objects, round trip", "10.00 ×", True),
        ("64-byte objects, one-way", "2.00 ×", False),
        ("p99.9 of round trips", "1.33 ×", False),
        ("100 clients, npipe.serve, threaded: at least 1 times", "2.00 ×", True),
        ("100 clients, npipe.serve, threaded: p99", "2.00 ×", False),
        ("100 clients, npipe.serve, threaded: the least", "80%", True),
        ("5 s after 1 GiB", "28.0 KiB", True),
    ],
)
def test_goals_are_judged_by_the_numbers(text: str, measured: str, reached: bool) -> None:
    goal = verdict(text, some_cases())
    assert (goal.measured, goal.reached) == (measured, reached)


def test_a_goal_without_its_numbers_is_not_measured(tmp_path: Path) -> None:
    results.save(tmp_path / "main.json", [], [])
    page = tmp_path / "goals.md"
    assert goals.main(["--folder", str(tmp_path), "--output", str(page)]) == 0
    rows = [line for line in page.read_text(encoding="utf-8").splitlines() if line.startswith("| ")][2:]
    assert rows
    assert all(row.endswith("| not measured |") for row in rows)


@pytest.mark.slow
def test_plots_come_out_of_the_numbers_light_and_dark_and_the_same_each_time(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed (`make bench` installs it)")
    numbers, once, again = tmp_path / "numbers", tmp_path / "once", tmp_path / "again"
    results.save(numbers / "main.json", [], some_cases())
    for folder in (once, again):
        assert plots.main(["--folder", str(numbers), "--output", str(folder)]) == 0
    names_drawn = sorted(path.name for path in once.iterdir())
    assert names_drawn == sorted(f"{name}-{theme}.svg" for name in plots.PLOTS for theme in ("light", "dark"))
    for name in names_drawn:
        assert (once / name).read_bytes() == (again / name).read_bytes()
        text = " ".join(ET.parse(once / name).getroot().itertext())
        assert "npipe" in text
        assert "better" in text or "faster" in text


def test_plots_whose_numbers_are_missing_are_not_drawn(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed (`make bench` installs it)")
    results.save(tmp_path / "main.json", [], some_cases()[:1])
    assert plots.main(["--folder", str(tmp_path)]) == 0
    assert {path.name for path in tmp_path.glob("*.svg")} == {"roundtrip-light.svg", "roundtrip-dark.svg"}
