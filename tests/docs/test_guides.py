"""The Python samples of the pages in docs/ and in its reference: each is run as it stands, and prints what it says.

A client has a server of its pipe's name, which answers in capitals; what else a sample needs beside it is in NEEDS, by
its page and number. One that cannot be run here is in LEFT_OUT with the reason. (Tutorial, how-tos and explanations
have tests of their own.)
"""

from __future__ import annotations

import ast
import re
import socket
import subprocess
import sys
from typing import TYPE_CHECKING, Final

import pytest

import npipe
from tests.docs import helpers as h

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

DEADLINE: Final = 60.0  # seconds

SERVER: Final = """
import contextlib, sys, npipe
with contextlib.ExitStack() as servers:
    for name in sys.argv[1:]:
        servers.enter_context(npipe.serve(name, bytes.upper))
    print("ready", flush=True)
    input()
"""
CLIENT: Final = """
import npipe
with npipe.connect("shop", wait_for_server=True) as pipe:
    pipe.send(b"one")
    print("ready", flush=True)
    input()
"""
CALLER: Final = """
import npipe
with npipe.connect("shop", wait_for_server=True) as pipe:
    print(pipe.transact(b"one"), flush=True)
"""

NEEDS: Final = {"tools 1": CLIENT}
"""Programs that a sample has beside it."""

ENDS_NEVER: Final = {"relay 1": None, "tools 2": CALLER}
"""Samples that go on until they are stopped, with the client that they have meanwhile."""

LEFT_OUT: Final = {
    "remote 1": "it takes a Samba: tests/export and tests/samba have its like",
    "remote-client 1": "it takes another machine and its password: tests/samba have its like",
    "connection 1": "it shows one line in the place of another",
}


def samples() -> Iterator[tuple[str, str]]:
    """The samples, by page and number."""
    pages = [*sorted(h.DOCS.glob("*.md")), *sorted((h.DOCS / "reference").glob("*.md"))]
    for page in pages:
        found = [block for block in h.blocks(page) if block.language == "python"]
        if any(re.match(r"# \w+\.py\n", block.text) for block in found):
            continue  # files of one program, which another test runs together
        yield from ((f"{page.stem} {number}", block.text) for number, block in enumerate(found, 1))


SAMPLES: Final = dict(samples())
RUN: Final = [one for one in SAMPLES if one not in LEFT_OUT]


def promised(sample: str) -> list[str]:
    """What the comments behind prints say that they print."""
    return re.findall(r"^\s*print\(.*\)  # (b'.*|'.*|\[.*|\d+)$", sample, re.MULTILINE)


def served_for(sample: str) -> list[str]:
    """The pipes that a sample opens and does not serve itself."""
    if re.search(r"\b(?:serve|listen)\(", sample):
        return []
    return re.findall(r"\b(?:connect|call|wait|Pool)\(r?\"([^\"]+)\"", sample)


def start(program: str, folder: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-u", "-W", "error", "-c", program, *arguments],
        cwd=folder,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate(timeout=DEADLINE)


@pytest.mark.parametrize("which", [one for one in RUN if one not in ENDS_NEVER])
def test_a_sample_runs_as_it_stands_and_prints_what_it_says(which: str, tmp_path: Path) -> None:
    if "numpy" in SAMPLES[which]:
        pytest.importorskip("numpy", reason="numpy is not installed: the group lint of pyproject.toml has it")
    names = served_for(SAMPLES[which])
    beside = [start(NEEDS[which], tmp_path)] if which in NEEDS else []
    try:
        if names:
            beside.append(start(SERVER, tmp_path, *names))
            assert beside[-1].stdout is not None
            assert beside[-1].stdout.readline() == "ready\n"
        (tmp_path / "sample.py").write_text(SAMPLES[which], encoding="utf-8")  # what spawns processes needs a file
        run = subprocess.run(
            [sys.executable, "-W", "error", "sample.py"],
            cwd=tmp_path,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=DEADLINE,
            check=False,
        )
    finally:
        for one in beside:
            end(one)
    assert (run.returncode, run.stderr) == (0, "")
    printed = iter(run.stdout.splitlines())
    assert all(line in printed for line in promised(SAMPLES[which])), run.stdout


def test_a_sample_that_observes_a_server_tells_what_its_client_sent(tmp_path: Path) -> None:
    server = start(SAMPLES["tools 2"], tmp_path)
    try:
        client = start(CALLER, tmp_path)
        assert client.communicate(timeout=DEADLINE)[0] == "b'ONE'\n"
        assert server.stdout is not None
        assert server.stdout.readline() == "\\\\.\\pipe\\shop 3\n"
    finally:
        end(server)


def test_the_sample_of_a_relay_carries_what_a_client_sends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = SAMPLES["relay 1"].replace("/var/run/docker.sock", "s")
    assert text != SAMPLES["relay 1"]
    monkeypatch.chdir(tmp_path)  # a socket's address is short
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("s")
        listener.listen()
        listener.settimeout(DEADLINE)
        relay = start(text, tmp_path)
        try:
            with npipe.connect("docker_engine", mode="byte", wait_for_server=True, timeout=DEADLINE) as pipe:
                pipe.write(b"GET /")
                accepted, _ = listener.accept()
                with accepted:
                    assert accepted.recv(5) == b"GET /"
        finally:
            end(relay)


def test_every_sample_is_a_whole_program_or_said_to_be_none() -> None:
    for which, text in SAMPLES.items():
        ast.parse(text, which)
    named = {*NEEDS, *ENDS_NEVER, *LEFT_OUT}
    assert not named - SAMPLES.keys(), "these are no samples"
    assert len(RUN) >= 12
