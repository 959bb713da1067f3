"""`npipe call`, `send`, `cat` and `listen` on Windows, each a process of its own: bytes come and go as they are."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import npipe

if TYPE_CHECKING:
    from pathlib import Path

DEADLINE = 120.0  # Wine takes seconds for each process
BYTES = bytes(range(256)) * 300 + b"\r\n\n\r\x1a\0"
"""What a stream of Windows' text mode would change, or end at."""


def command(*arguments: str, data: bytes | None = None) -> subprocess.CompletedProcess[bytes]:
    given: dict[str, Any] = {"stdin": subprocess.DEVNULL} if data is None else {"input": data}
    line = [sys.executable, "-m", "npipe", *arguments]
    return subprocess.run(line, capture_output=True, timeout=DEADLINE, check=False, **given)


def test_call_sends_its_input_and_prints_the_answer_whatever_the_bytes_are(name: str) -> None:
    with npipe.serve(name, lambda request: request[::-1]):
        done = command("call", name, "-", data=BYTES)
        assert (done.returncode, done.stdout, done.stderr) == (0, BYTES[::-1], b"")
        done = command("call", name, "tëxt")
        assert (done.returncode, done.stdout) == (0, "tëxt".encode()[::-1])


def test_call_says_in_one_line_that_nobody_is_there(name: str) -> None:
    done = command("call", name, "x")
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (3, b"", 1)
    assert b"[WinError 2]" in done.stderr


def test_send_sends_a_file_and_cat_writes_one_by_pipes_of_one_direction(name: str, tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(BYTES)
    with npipe.listen(name, access="inbound") as listener, ThreadPoolExecutor() as pool:
        sending = pool.submit(command, "send", name, "--file", str(source), "--checksum", "--json")
        with listener.accept(DEADLINE) as pipe:
            got = b""
            while len(got) < len(BYTES):
                got += pipe.recv(timeout=DEADLINE)
        done = sending.result(DEADLINE)
    assert (done.returncode, got) == (0, BYTES), done.stderr
    assert hashlib.sha256(BYTES).hexdigest().encode() in done.stdout + done.stderr
    with npipe.listen(name, access="outbound") as listener, ThreadPoolExecutor() as pool:
        reading = pool.submit(command, "cat", name, "--to", str(target))
        with listener.accept(DEADLINE) as pipe:
            pipe.send(BYTES, timeout=DEADLINE)
            pipe.send(b"the end", timeout=DEADLINE)
            pipe.flush(timeout=DEADLINE)
        done = reading.result(DEADLINE)
    assert (done.returncode, target.read_bytes()) == (0, BYTES + b"the end"), done.stderr


def test_listen_prints_what_a_client_sends_and_sends_it_the_input(name: str) -> None:
    messages = [b"one", BYTES, b"\r\n"]
    line = [sys.executable, "-m", "npipe", "listen", name, "--json", "--input", "lines"]
    with subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        try:
            assert process.stdin is not None
            assert process.stdout is not None
            with npipe.connect(name, timeout=DEADLINE, wait_for_server=True) as pipe:
                process.stdin.write(b"answer\n")
                process.stdin.flush()
                assert pipe.recv(timeout=DEADLINE) == b"answer"
                for message in messages:
                    pipe.send(message, timeout=DEADLINE)
                printed = [json.loads(process.stdout.readline())["size"] for _ in messages]
            process.stdin.close()
            assert process.wait(DEADLINE) == 0
        finally:
            process.kill()
    assert printed == [len(message) for message in messages]
