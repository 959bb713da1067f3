"""The door of files: other modules of the standard library, and programs as they are."""

from __future__ import annotations

import codecs
import importlib
import json
import os
import pickle
import select
import shutil
import signal
import subprocess
import sys
import time
import warnings
from typing import TYPE_CHECKING, Any

import pytest

import npipe
from tests import helpers as h
from tests.doors.files.helpers import DEADLINE, PROGRAMS, Peer

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.conftest import Child


def test_other_modules_open_pipes(door: Any, peer: Peer, tmp_path: Path) -> None:
    with codecs.open(peer.listener.name, "r+", "utf-8") as text:
        server = peer.accept()
        text.write("größe")
        text.stream.flush()  # type: ignore[attr-defined]
        assert server.read(100) == "größe".encode()
        server.close()
    with open(peer.listener.name, "w+b") as pipe:
        server = peer.accept()
        pipe.write(json.dumps({"cmd": "HELLO"}).encode())
        pipe.flush()
        assert json.loads(server.read(100)) == {"cmd": "HELLO"}
        pickle.dump([1, 2], pipe)
        pipe.flush()
        assert pickle.loads(server.read(100)) == [1, 2]
        server.write(b"copied")
        server.close()
        with (tmp_path / "copy").open("wb") as copy:
            shutil.copyfileobj(pipe, copy)
    assert (tmp_path / "copy").read_bytes() == b"copied"
    with pytest.raises(shutil.SpecialFileError, match="named pipe"):
        shutil.copyfile(peer.listener.name, tmp_path / "copy")
    with importlib.import_module("_pyio").open(peer.listener.name, "r+b", buffering=0) as pipe:
        server = peer.accept()
        pipe.write(b"in Python")
        assert server.read(100) == b"in Python"


def test_a_child_cannot_have_it(door: Any, upper: str) -> None:
    with open(upper, "r+b", 0) as pipe, pytest.raises(npipe.PipeStateError) as caught:
        subprocess.run([sys.executable, "-c", "pass"], stdin=pipe, check=False)
    assert caught.value.winerror == 50


def test_files_of_forked_children_leave_the_parents_alone(door: Any, upper: str) -> None:
    with open(upper, "r+b", 0) as pipe:
        pipe.fileno()
        child = os.fork()
        if child == 0:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                pipe.close()
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        pipe.write(b"still here")
        assert select.select([pipe], [], [], DEADLINE)[0]
        assert pipe.read(100) == b"STILL HERE"


# ---- Processes


def test_ctrl_c_ends_a_read(name: str, child: Callable[..., Child]) -> None:
    with npipe.listen(name, mode="byte") as listener:
        process = child(
            """
            import sys, npipe.win32
            with npipe.win32.install(files=True), open(sys.argv[1], "r+b") as pipe:
                print("open", flush=True)
                try:
                    pipe.read(1)
                except KeyboardInterrupt:
                    print("interrupted", flush=True)
                pipe.write(b"still open")
                pipe.flush()
            """,
            name,
        )
        server = listener.accept(20)
        assert process.line() == "open"
        h.until(lambda: h.asleep(process.pid), 20)
        os.kill(process.pid, signal.SIGINT)
        assert process.line() == "interrupted"
        assert server.read(100) == b"still open"
        server.close()


def run(program: str, *arguments: str) -> str:
    command = [sys.executable, "-m", "npipe", "run", str(PROGRAMS / program), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return done.stdout


def test_a_client_that_sends_frames_and_seeks_between(name: str) -> None:
    def answer(frame: bytes) -> bytes:
        size = int.from_bytes(frame[:4], "little")
        assert len(frame) == 4 + size
        text = frame[4:].upper()
        return len(text).to_bytes(4, "little") + text

    with npipe.serve(name, answer, mode="message"):
        assert run("files_frames.py", name).splitlines() == ["MESSAGE[0]", "MESSAGE[1]", "MESSAGE[2]"]


def test_a_discord_client(name: str) -> None:
    def answer(frame: bytes) -> bytes:
        opcode, size = int.from_bytes(frame[:4], "little"), int.from_bytes(frame[4:8], "little")
        assert len(frame) == 8 + size
        payload = json.loads(frame[8:])
        reply = json.dumps({"evt": "READY" if opcode == 0 else None, "nonce": payload.get("nonce")}).encode()
        return (1).to_bytes(4, "little") + len(reply).to_bytes(4, "little") + reply

    prefix = name + "-discord-ipc-"
    with npipe.serve(prefix + "3", answer, mode="message"):
        assert run("files_discord.py", prefix).splitlines() == ["connected to 3", "READY", "nonce 7"]


def test_an_mpv_client_reads_events_in_a_thread(name: str) -> None:
    def answer(line: bytes) -> bytes:
        command = json.loads(line)
        reply = {"request_id": command["request_id"], "error": "success", "data": command["command"][-1]}
        return b'{"event":"idle"}\n' + json.dumps(reply).encode() + b"\n"

    with npipe.serve(name, answer, mode="message"):
        assert run("files_mpv.py", name).splitlines() == ["volume", "speed", "events 2"]


def test_a_text_client_that_waits_for_its_server(name: str) -> None:
    command = [sys.executable, "-m", "npipe", "run", str(PROGRAMS / "files_lines.py"), name]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "waiting\n"
        with npipe.listen(name, mode="byte") as listener, listener.accept(20) as server:
            assert server.read(100) == b"hello\r\n"
            server.write(b"one\r\ntwo\n")
        assert process.stdout.read() == "['one', 'two']\n"
        assert process.wait(20) == 0
    assert time.monotonic()


def test_what_a_program_leaves_in_its_files_goes_out_at_its_end(name: str) -> None:
    def everything(pipe: Any) -> bytes:
        received = b""
        while True:
            try:
                received += pipe.read(1000)
            except npipe.PipeClosedError:
                return received

    with npipe.listen(name, mode="byte") as listener:
        running = h.Background(lambda: run("files_log.py", name))
        pipes = [listener.accept(DEADLINE) for _ in range(3)]
        assert running.result() == ""
        received = sorted(everything(pipe) for pipe in pipes)
        assert received == [b"INFO begun\r\nERROR ended\r\n", b"never closed\r\n", b"never flushed"]
        for pipe in pipes:
            pipe.close()
