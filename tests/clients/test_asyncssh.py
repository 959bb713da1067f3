"""asyncssh's agent, unmodified, in its branch for Windows: a file of OpenSSH's pipe."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import pytest

import npipe
from tests.clients.programs import as_windows, run

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.timeout(300)  # with what is fetched

PROGRAM = """
import asyncio, sys
import asyncssh

async def main(path):
    async with asyncssh.connect_agent(path) as agent:
        for key in await agent.get_keys():
            print(key.algorithm.decode(), key.get_comment(), len(key.public_data))
            print((await key.sign_async(b"to be signed")).hex())

asyncio.run(main(*sys.argv[1:]))
"""


def string(data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + data


KEY = string(b"ssh-ed25519") + string(bytes(range(32)))
SIGNATURE = string(b"ssh-ed25519") + string(bytes(range(64)))


def agent(request: bytes) -> bytes:
    """Answer as an agent with one key does."""
    (size,) = struct.unpack(">I", request[:4])
    assert len(request) == 4 + size
    if request[4:] == b"\x0b":  # list the keys
        return string(b"\x0c" + struct.pack(">I", 1) + string(KEY) + string("a comment \u00fc".encode()))
    assert request[4:] == b"\x0d" + string(KEY) + string(b"to be signed") + struct.pack(">I", 0)
    return string(b"\x0e" + string(SIGNATURE))


@pytest.mark.parametrize("given", ["", r"\\.\pipe\another-agent"])
def test_it_lists_keys_and_signs(given: str, asyncssh_folder: Path, tmp_path: Path) -> None:
    name = given or r"\\.\pipe\openssh-ssh-agent"
    arguments = (given,) if given else ("",)
    with npipe.serve(name, agent, mode="message"):
        printed = run(asyncssh_folder, tmp_path / "program", PROGRAM, *as_windows("asyncssh"), arguments=arguments)
    assert printed == [f"ssh-ed25519 a comment \u00fc {len(KEY)}", SIGNATURE.hex()]


def test_it_says_that_there_is_no_agent(asyncssh_folder: Path, tmp_path: Path) -> None:
    program = """
import asyncio, asyncssh

async def main():
    try:
        await asyncssh.connect_agent()
    except OSError as error:
        print(type(error).__name__, error.errno)

asyncio.run(main())
"""
    assert run(asyncssh_folder, tmp_path / "program", program, *as_windows("asyncssh")) == ["FileNotFoundError 2"]
