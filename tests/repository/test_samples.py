"""The Python samples of the README and of docs/explanation run as they stand, and print what they say they do."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.helpers import CHECKOUT

if TYPE_CHECKING:
    from pathlib import Path

DEADLINE = 60
PAGES = [CHECKOUT / "README.md", *sorted((CHECKOUT / "docs" / "explanation").glob("*.md"))]


def samples(page: Path) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", page.read_text("utf-8"), re.MULTILINE | re.DOTALL)


def promised(sample: str) -> list[str]:
    """What the sample says it prints: the comment behind each print, as far as it is a value."""
    return re.findall(r"^\s*print\(.*\)  # (.*)$", sample, re.MULTILINE)


ALONE = {
    f"{page.stem}_{number}": sample
    for page in PAGES
    for number, sample in enumerate(samples(page), 1)
    if not sample.startswith(("# server.py", "# client.py"))
}


@pytest.mark.parametrize("name", ALONE)
def test_a_sample_prints_what_it_says(name: str, tmp_path: Path) -> None:
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", ALONE[name]],
        capture_output=True,
        text=True,
        check=False,
        timeout=DEADLINE,
        cwd=tmp_path,
        env=os.environ | {"NPIPE_ROOT": str(tmp_path)},
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.splitlines() == promised(ALONE[name])


def test_the_ten_lines_of_the_readme_talk_to_each_other(tmp_path: Path) -> None:
    files = {sample.split("\n", 1)[0].removeprefix("# "): sample for sample in samples(CHECKOUT / "README.md")}
    assert files.keys() == {"server.py", "client.py"}
    for name, text in files.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    client = files["client.py"].replace("timeout=20", "timeout=20, wait_for_server=True")
    assert client != files["client.py"]
    environment = os.environ | {"NPIPE_ROOT": str(tmp_path / "root")}
    with subprocess.Popen([sys.executable, "server.py"], cwd=tmp_path, env=environment) as server:
        try:
            (tmp_path / "waiting.py").write_text(client, encoding="utf-8")
            for name in ("waiting.py", "client.py", "client.py"):  # the first one waits until the server is there
                run = subprocess.run(
                    [sys.executable, name],
                    capture_output=True,
                    text=True,
                    check=False,
                    timeout=DEADLINE,
                    cwd=tmp_path,
                    env=environment,
                )
                assert (run.returncode, run.stdout) == (0, "b'HELLO'\n"), run.stderr
        finally:
            server.kill()
