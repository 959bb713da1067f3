"""web3's providers for a node's pipe, unmodified: win32file's, and asyncio's if this version has it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

import npipe
from tests.clients.programs import as_windows, run

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.timeout(300)  # with what is fetched

BALANCE = 12345678901234567890


def node(request: bytes) -> bytes:
    """Answer as an Ethereum node does."""
    call = json.loads(request)
    results = {"eth_blockNumber": hex(77), "eth_getBalance": hex(BALANCE), "web3_clientVersion": "a node"}
    answer = {"jsonrpc": "2.0", "id": call["id"], "result": results[call["method"]]}
    return json.dumps(answer).encode() + b"\n"


@pytest.mark.parametrize("given", ["", "r'\\\\.\\pipe\\geth.ipc'"], ids=["default", "given"])
def test_a_node_is_asked(given: str, web3_folder: Path, tmp_path: Path) -> None:
    program = f"""
from web3 import Web3
web3 = Web3(Web3.IPCProvider({given}))
print(web3.is_connected(), web3.eth.block_number, web3.eth.get_balance("0x" + "00" * 20))
"""
    with npipe.serve(r"\\.\pipe\geth.ipc", node, mode="message"):
        printed = run(web3_folder, tmp_path / "program", program, *as_windows("web3"))
    assert printed == [f"True 77 {BALANCE}"]
