"""What `npipe top` costs on many connections: its share of a processor, and the server's (docs/tools.md).

`python -m bench.top [CONNECTIONS]`, of which each says something now and then, with a root of its own.
"""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import subprocess
import sys
import tempfile
import termios
import threading
import time
from pathlib import Path

_SERVER = """
import npipe
with npipe.serve("crowd", bytes.upper) as server:
    print("serves", flush=True)
    server.wait()
"""
_CLIENTS = """
import sys, time, npipe
pipes = [npipe.connect("crowd", timeout=30) for _ in range(int(sys.argv[1]))]
print("connected", flush=True)
try:
    while True:
        for pipe in pipes:
            pipe.send(b"x" * 100)
            pipe.recv()
            time.sleep(0.05)
except npipe.PipeClosedError:  # the end
    pass
"""
_PROCESSES = 10
_SECONDS = 10.0


def main(arguments: list[str]) -> int:
    """Measure, and print a line for each screen."""
    count = int(arguments[0]) if arguments else 1000
    with tempfile.TemporaryDirectory() as root:
        os.environ["NPIPE_ROOT"] = root
        started = [_start(_SERVER)]
        try:
            started += [_start(_CLIENTS, str(count // _PROCESSES)) for _ in range(_PROCESSES)]
            _measure(started[0].pid, count)
        finally:
            for process in started:
                process.kill()
                process.wait()
    return 0


def _start(script: str, *arguments: str) -> subprocess.Popen[str]:
    process = subprocess.Popen([sys.executable, "-c", script, *arguments], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    process.stdout.readline()
    return process


def _cpu(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _shares(*pids: int) -> list[float]:
    before, began = [_cpu(pid) for pid in pids], time.monotonic()
    time.sleep(_SECONDS)
    spent = time.monotonic() - began
    return [(_cpu(pid) - then) / spent for pid, then in zip(pids, before, strict=True)]


def _drain(master: int) -> None:
    try:
        while os.read(master, 65536):
            pass
    except OSError:  # how Linux tells that nobody has the other side any more
        pass


def _measure(server: int, count: int) -> None:
    print(f"{count} connections: share of a processor")
    print(f"server alone: {_shares(server)[0]:.1%}")
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("4H", 40, 120, 0, 0))
    environment = {**os.environ, "TERM": "xterm-256color"}
    command = [sys.executable, "-m", "npipe", "top"]
    with subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave, env=environment) as top:
        threading.Thread(target=_drain, args=(master,), daemon=True).start()
        time.sleep(_SECONDS)  # until it has begun: it imports textual
        for screen, keys in (
            ("all pipes", b""),
            ("one pipe, no messages", b"\rm"),
            ("one pipe and its messages", b"m"),
        ):
            for key in keys:
                os.write(master, bytes([key]))
                time.sleep(2)
            mine, its = _shares(top.pid, server)
            print(f"{screen}: npipe top {mine:.1%}, server {its:.1%}")
        os.write(master, b"q")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
