"""An oracle of content: `make test-integrity`, not part of `make test`.

NPIPE_LONG=1 is the long form; NPIPE_SEED=n the plan of that seed alone, NPIPE_REPEAT times.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.integrity.crew import Crew

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = Path(__file__).parent
FIGURES = pytest.StashKey[str]()


def pytest_ignore_collect(config: pytest.Config) -> bool | None:
    """Collect these only when they are asked for by path: they take a minute."""
    asked = (config.invocation_params.dir / argument.partition("::")[0] for argument in config.args)
    return None if any(path.resolve().is_relative_to(HERE) for path in asked) else True


@pytest.fixture(scope="session")
def crew(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Crew]:
    """The two processes."""
    made = Crew(tmp_path_factory.mktemp("integrity") / "npipe-root")
    yield made
    made.end()
    request.config.stash[FIGURES] = ", ".join(f"{count:,} {what}" for what, count in made.figures.items())


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print what was tried."""
    terminalreporter.section("figures")
    terminalreporter.write_line(config.stash.get(FIGURES, "nothing"))
