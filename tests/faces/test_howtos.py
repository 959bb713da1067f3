"""The how-tos of the docs, as a reader would take them: into files, and run."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.helpers import CHECKOUT

if TYPE_CHECKING:
    from pathlib import Path


def blocks(page: str) -> tuple[dict[str, str], list[str]]:
    """The page's Python files by their names, and its other blocks."""
    text = (CHECKOUT / "docs" / page).read_text(encoding="utf-8")
    found = re.findall(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    files = {body.split("\n")[0].removeprefix("# "): body for kind, body in found if kind == "python"}
    return files, [body for kind, body in found if kind != "python"]


@pytest.fixture
def howto(tmp_path: Path, name: str) -> tuple[Path, str]:
    """The files of the how-to of JSON-RPC, with a pipe of their own, and what the client is to print."""
    files, (printed,) = blocks("howto-json-rpc.md")
    for file, body in files.items():
        (tmp_path / file).write_text(body.replace(r"\\.\pipe\calculator", name), encoding="utf-8")
    assert sorted(files) == ["client.py", "rpc.py", "server.py"]
    return tmp_path, printed


def test_json_rpc_answers_what_its_page_says_with_the_client_started_first(howto: tuple[Path, str]) -> None:
    folder, printed = howto
    client = subprocess.Popen([sys.executable, "client.py"], cwd=folder, stdout=subprocess.PIPE, text=True)
    server = subprocess.Popen([sys.executable, "server.py"], cwd=folder, stdin=subprocess.PIPE)
    try:
        assert client.communicate(timeout=30)[0] == printed
        assert client.returncode == 0
        server.communicate(b"\n", timeout=30)
        assert server.returncode == 0
    finally:
        for process in (client, server):
            process.kill()
            process.wait(20)


@pytest.mark.slow
def test_json_rpc_is_thirty_lines_and_passes_a_strict_type_checker(howto: tuple[Path, str]) -> None:
    mypy = pytest.importorskip("mypy.api")
    folder, _ = howto
    lines = (folder / "rpc.py").read_text(encoding="utf-8").splitlines()[1:]
    assert sum(bool(line) and "import" not in line for line in lines) <= 30
    files = [str(folder / file) for file in ("rpc.py", "server.py", "client.py")]
    settings = ["--strict", f"--config-file={folder / 'none.ini'}", f"--cache-dir={folder / 'cache'}"]
    (folder / "none.ini").write_text("[mypy]\n", encoding="utf-8")
    told, failed, _ = mypy.run([*settings, *files])
    assert told.startswith("Success"), told + failed
