"""uipath-ipc, unmodified, on asyncio's pipes: its own tests, by the command, and a server and a client of it."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.clients.programs import as_windows, environment, run

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.timeout(300)  # with what is fetched

CONTRACT = """
from abc import ABC, abstractmethod

class ICalculator(ABC):
    @abstractmethod
    async def Add(self, a: float, b: float) -> float: ...

    @abstractmethod
    async def Shout(self, text: str) -> str: ...
"""

SERVER = f"""
import asyncio, sys
from uipath_ipc import IpcServer, NamedPipeServerTransport
{CONTRACT}
class Calculator:
    async def Add(self, a, b):
        return a + b

    async def Shout(self, text):
        return text.upper()

async def main():
    async with IpcServer(NamedPipeServerTransport(sys.argv[1]), {{ICalculator: Calculator()}}) as server:
        print("listening", flush=True)
        await server.serve_forever()

asyncio.run(main())
"""

CLIENT = f"""
import asyncio, sys
from uipath_ipc import IpcClient, NamedPipeClientTransport
{CONTRACT}
async def main():
    async with IpcClient(NamedPipeClientTransport(sys.argv[1])) as client:
        calculator = client.get_proxy(ICalculator)
        print(await asyncio.gather(*(calculator.Add(number, 0.5) for number in range(20))))
        text = "\u00fc" * 100_000
        print(await calculator.Shout(text) == text.upper())

asyncio.run(main())
"""


def test_its_own_tests_pass(uipath_folder: Path) -> None:
    command = ["-m", "pytest", "-q", "-rs", "-p", "no:cacheprovider", "--no-integration"]  # those ask for .NET
    done = subprocess.run(
        [sys.executable, "-m", "npipe", "run", *as_windows("uipath_ipc"), *command],
        cwd=uipath_folder / "source",
        env={
            **environment(uipath_folder / "source" / "src", uipath_folder / "packages"),
            "PYTHONDONTWRITEBYTECODE": "1",
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert "POSIX unix-socket lifecycle" in done.stdout  # what it leaves out on Windows
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed is not None
    assert int(passed[1]) > 200


def test_a_server_and_clients(uipath_folder: Path, tmp_path: Path, name: str) -> None:
    source, place = uipath_folder / "source" / "src", tmp_path / "server"
    place.mkdir()
    (place / "server.py").write_text(SERVER, encoding="utf-8")
    short = name.removeprefix("\\\\.\\pipe\\")
    with subprocess.Popen(
        [sys.executable, "-m", "npipe", "run", *as_windows("uipath_ipc"), "server.py", short],
        cwd=place,
        env=environment(source),
        stdout=subprocess.PIPE,
        text=True,
    ) as server:
        try:
            assert server.stdout is not None
            assert server.stdout.readline() == "listening\n"
            for _ in range(2):
                printed = run(source, tmp_path / "client", CLIENT, *as_windows("uipath_ipc"), arguments=(short,))
                assert printed == [str([number + 0.5 for number in range(20)]), "True"]
        finally:
            server.kill()
