"""Clients that reach pipes by files, unmodified, under `npipe run`: paramiko's agent, discord-rpc."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

import npipe

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.timeout(300)  # with what is fetched


def run(folder: Path, program: str) -> list[str]:
    """What a program prints that imports from `folder`."""
    path = os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        [sys.executable, "-m", "npipe", "run", "-c", program],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "PYTHONPATH": path},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def string(data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + data


def test_paramiko_lists_the_keys_of_openssh_s_agent(paramiko_folder: Path) -> None:
    key = string(b"ssh-ed25519") + string(bytes(range(32)))
    keys = b"\x0c" + struct.pack(">I", 1) + string(key) + string(b"a comment")

    def agent(request: bytes) -> bytes:
        assert request == b"\0\0\0\x01\x0b"
        return string(keys)

    program = """
from paramiko import agent, win_openssh
print(win_openssh.can_talk_to_agent())
ssh = agent.AgentSSH()
ssh._connect(win_openssh.OpenSSHAgentConnection())
for key in ssh.get_keys():
    print(key.get_name(), key.comment)
ssh._close()
"""
    with npipe.serve(r"\\.\pipe\openssh-ssh-agent", agent, mode="message"):
        assert run(paramiko_folder, program) == ["True", "ssh-ed25519 a comment"]
    assert run(paramiko_folder, "from paramiko import win_openssh as w; print(w.can_talk_to_agent())") == ["False"]


def test_discord_rpc_sets_an_activity_while_its_thread_reads(discord_rpc_folder: Path) -> None:
    seen: list[tuple[int, object]] = []

    def discord(frame: bytes) -> bytes:
        opcode, size = struct.unpack("<ii", frame[:8])
        assert len(frame) == 8 + size
        payload = json.loads(frame[8:])
        seen.append((opcode, payload.get("cmd")))
        if opcode == 0:
            answer: dict[str, object] = {
                "cmd": "DISPATCH",
                "evt": "READY",
                "data": {"user": {"username": "somebody", "id": "1"}},
            }
        else:
            answer = {"cmd": payload.get("cmd"), "nonce": payload.get("nonce"), "evt": None, "data": {"value": 7}}
        text = json.dumps(answer).encode()
        return struct.pack("<ii", 1, len(text)) + text

    program = """
from discordrpc.presence import WindowsPipe
pipe = WindowsPipe(1, True, False)
print(pipe.handshake()["username"])
for number in range(3):
    answer = pipe._request({"cmd": "GET", "args": {}, "nonce": str(number)})
    print(answer["ok"], answer["nonce"], answer["data"]["value"])
pipe.disconnect()
"""
    with npipe.serve(r"\\.\pipe\discord-ipc-0", discord, mode="message"):
        assert run(discord_rpc_folder, program) == ["somebody", "True 0 7", "True 1 7", "True 2 7"]
    assert seen[:4] == [(0, None), (1, "GET"), (1, "GET"), (1, "GET")]
