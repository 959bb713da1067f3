"""Discord's clients, unmodified: by asyncio (pypresence), `open` (discordrp, discoIPC), kernel32 (discord_rpc)."""

from __future__ import annotations

import contextlib
import json
import struct
from typing import TYPE_CHECKING, Any

import pytest

import npipe
from tests.clients.programs import as_windows, run
from tests.helpers import started

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.timeout(300)  # with what is fetched

READY = {"cmd": "DISPATCH", "evt": "READY", "data": {"user": {"username": "somebody", "id": "1"}}, "nonce": None}


class Discord:
    """The part of Discord that listens: byte pipes, and frames of an opcode, a length and JSON."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, Any]] = []  # opcode and payload of each frame

    def play(self, listener: npipe.Listener[npipe.StreamPipe]) -> None:
        """Serve one client after another, until the listener is closed."""
        with contextlib.suppress(npipe.PipeClosedError):
            while True:
                with listener.accept() as pipe, contextlib.suppress(npipe.PipeClosedError):
                    self._serve(pipe)

    def _serve(self, pipe: npipe.StreamPipe) -> None:
        while True:
            opcode, size = struct.unpack("<ii", self._exactly(pipe, 8))
            payload = json.loads(self._exactly(pipe, size))
            self.seen.append((opcode, payload))
            if opcode == 0:
                self._answer(pipe, READY)
            elif opcode == 1:
                activity = payload["args"].get("activity")
                answer = {"cmd": payload["cmd"], "nonce": payload["nonce"], "evt": None, "data": activity}
                if (activity or {}).get("state") == "wrong":
                    answer |= {"evt": "ERROR", "data": {"code": 4000, "message": "no such state: \u00fc"}}
                self._answer(pipe, answer)

    @staticmethod
    def _exactly(pipe: npipe.StreamPipe, size: int) -> bytes:
        data = b""
        while len(data) < size:
            part = pipe.read(size - len(data))
            if not part:
                raise npipe.PipeClosedError  # the client has gone
            data += part
        return data

    @staticmethod
    def _answer(pipe: npipe.StreamPipe, payload: object) -> None:
        text = json.dumps(payload).encode()
        pipe.write(struct.pack("<ii", 1, len(text)) + text)

    def commands(self) -> list[tuple[int, Any]]:
        """The opcode and the activity's state, of each frame."""
        return [(opcode, (payload.get("args", {}).get("activity") or {}).get("state")) for opcode, payload in self.seen]


@pytest.fixture
def discord() -> Iterator[Discord]:
    player = Discord()
    with npipe.listen(r"\\.\pipe\discord-ipc-0", mode="byte") as listener:
        playing = started(lambda: player.play(listener))
        yield player
    playing.result()


def test_pypresence_sets_an_activity(discord_folder: Path, tmp_path: Path, discord: Discord) -> None:
    program = """
from pypresence import Presence
from pypresence.exceptions import ServerError

presence = Presence("42")
presence.connect()
for state in ("one", "two"):
    print(presence.update(state=state, details="\u00fc")["data"]["state"])
try:
    presence.update(state="wrong")
except ServerError as error:
    print(error)
print(presence.clear()["evt"])
presence.close()
"""
    printed = run(discord_folder, tmp_path / "program", program, *as_windows("pypresence"))
    assert printed[:2] == ["one", "two"]
    assert "no such state" in printed[2].lower()
    assert printed[3:] == ["None"]
    assert discord.seen[0] == (0, {"v": 1, "client_id": "42"})
    assert discord.commands() == [(0, None), (1, "one"), (1, "two"), (1, "wrong"), (1, None), (2, None)]


def test_pypresence_s_asynchronous_client(discord_folder: Path, tmp_path: Path, discord: Discord) -> None:
    program = """
import asyncio
from pypresence import AioPresence

async def main():
    presence = AioPresence("42")
    await presence.connect()
    for state in ("one", "two"):
        answer = await presence.update(state=state)
        print(answer["cmd"], answer["data"]["state"])
    print((await presence.clear())["evt"])  # its close() closes the running loop, which no loop allows

asyncio.run(main())
"""
    printed = run(discord_folder, tmp_path / "program", program, *as_windows("pypresence"))
    assert printed == ["SET_ACTIVITY one", "SET_ACTIVITY two", "None"]
    assert discord.commands() == [(0, None), (1, "one"), (1, "two"), (1, None)]


@pytest.mark.parametrize("client", ["Presence", "AioPresence"])
def test_pypresence_says_that_there_is_no_discord(client: str, discord_folder: Path, tmp_path: Path) -> None:
    program = f"""
import asyncio, pypresence
try:
    answer = pypresence.{client}("42").connect()
    if answer is not None:
        asyncio.run(answer)
except pypresence.DiscordNotFound:
    print("none")
"""
    assert run(discord_folder, tmp_path / "program", program, *as_windows("pypresence")) == ["none"]


def test_discordrp_opens_a_file(discord_folder: Path, tmp_path: Path, discord: Discord) -> None:
    program = """
import discordrp
with discordrp.Presence("42") as presence:
    presence.set({"state": "one"})
    try:
        presence.set({"state": "wrong"})
    except discordrp.PresenceError as error:
        print(error)
    presence.clear()
"""
    (printed,) = run(discord_folder, tmp_path / "program", program, *as_windows("discordrp"))
    assert "no such state: \u00fc" in printed
    assert discord.commands() == [(0, None), (1, "one"), (1, "wrong"), (1, None), (2, None)]


def test_discoipc_opens_a_file(discord_folder: Path, tmp_path: Path, discord: Discord) -> None:
    program = """
from discoIPC.ipc import DiscordIPC
client = DiscordIPC("42")
client.connect()
client.update_activity({"state": "one"})
client.update_activity({"state": "two"})
client.disconnect()
"""
    assert run(discord_folder, tmp_path / "program", program, *as_windows("discoIPC")) == []
    assert [path.name for path in (tmp_path / "program").iterdir()] == ["script.py"]  # no file of the pipe's name
    assert discord.commands() == [(0, None), (1, "one"), (1, "two"), (2, None)]


def test_discord_rpc_py_calls_kernel32(discord_folder: Path, tmp_path: Path, discord: Discord) -> None:
    program = """
import json
from discord_rpc.connection.ipc import BaseConnection

connection = BaseConnection(log=False)
connection.open()

def ask(opcode, payload):
    assert connection.write(json.dumps(payload), opcode)
    while True:
        done, answered, data = connection.read()
        if done:
            return json.loads(data)

print(ask(0, {"v": 1, "client_id": "42"})["evt"])
answer = ask(1, {"cmd": "SET_ACTIVITY", "args": {"activity": {"state": "one"}}, "nonce": "7"})
print(answer["nonce"], answer["data"]["state"])
connection.close()
"""
    assert run(discord_folder, tmp_path / "program", program, *as_windows("discord_rpc")) == ["READY", "7 one"]
    assert discord.commands() == [(0, None), (1, "one")]
