"""Transactions through smbd: an exported pipe, beside a bare program at the same smbd's socket, in turns.

    python -m bench.samba [--seconds 8] [--clients 64]

The client is smbprotocol. The bare program answers each message from the thread that has read it, and knows nothing
else: what the exported pipe takes longer is the price of the gateway. `direct` is the same without smbd and SMB.
"""

from __future__ import annotations

import argparse
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from statistics import median
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

SERVER = """
import sys, npipe
with npipe.serve("exported", bytes, remote="samba", allow="authenticated", samba_dir=sys.argv[1]):
    print("ready", flush=True)
    sys.stdin.read()
"""
BARE = """
import socket, struct, sys, threading
from npipe.transports.export.handshake import compose_reply, parse
listening = socket.socket(socket.AF_UNIX)
listening.bind(sys.argv[1] + "/np/bare")
listening.listen(1000)
print("ready", flush=True)
def exactly(connection, size):
    data = b""
    while len(data) < size:
        piece = connection.recv(size - len(data))
        if not piece:
            raise EOFError
        data += piece
    return data
def answer(connection):
    head = exactly(connection, 4)
    who = parse(head + exactly(connection, int.from_bytes(head, "big")))
    connection.sendall(compose_reply(who.level, message_type=True))
    try:
        while True:
            head = exactly(connection, 2)
            connection.sendall(head + exactly(connection, struct.unpack("<H", head)[0]))
    except (EOFError, ConnectionResetError):
        connection.close()
while True:
    threading.Thread(target=answer, args=(listening.accept()[0],), daemon=True).start()
"""
PASSWORD = "of the measurement"  # of a user that lives as long as this


def percentile(times: list[float], share: float) -> float:
    """Return a percentile in microseconds."""
    return sorted(times)[min(len(times) - 1, int(len(times) * share))] * 1e6


def through_smbd(port: int, sizes: tuple[int, ...], seconds: float) -> None:
    """One client: each pipe in turn, 50 transactions at a time."""
    from tests.samba.clients import Client

    with Client(port, password=PASSWORD) as client:
        pipes = {name: client.open(name) for name in ("exported", "bare")}
        for size in sizes:
            times: dict[str, list[float]] = {name: [] for name in pipes}
            data = os.urandom(size)
            end = time.monotonic() + seconds
            while time.monotonic() < end:
                for name, pipe in pipes.items():
                    for _ in range(50):
                        began = time.perf_counter()
                        answer = client.call(pipe, data)
                        times[name].append(time.perf_counter() - began)
                        assert answer == data
            report(f"transceive {size} B", times)


def crowd(port: int, clients: int, turns: int) -> None:
    """Many clients at once, each with a connection of its own: transactions in a second."""
    from tests.samba.clients import Client

    for name in ("exported", "bare", "exported", "bare"):
        gate = threading.Barrier(clients + 1)

        def talk(name: str = name, gate: threading.Barrier = gate) -> None:
            with Client(port, password=PASSWORD) as client:
                pipe = client.open(name)
                gate.wait(120)
                for _ in range(turns):
                    client.call(pipe, b"x" * 64)
                gate.wait(120)

        threads = [threading.Thread(target=talk) for _ in range(clients)]
        for thread in threads:
            thread.start()
        gate.wait(120)
        began = time.perf_counter()
        gate.wait(120)
        rate = clients * turns / (time.perf_counter() - began)
        for thread in threads:
            thread.join()
        print(f"{clients} clients, {name}: {rate:.0f} transactions/s", flush=True)


def direct(samba_dir: Path, seconds: float) -> None:
    """Without smbd: this process in its place."""
    from tests.export.helpers import ALICE, framed

    times: dict[str, list[float]] = {"exported": [], "bare": []}
    message = framed(b"x" * 64)
    connections = {}
    for name in times:
        connection = connections[name] = socket.socket(socket.AF_UNIX)
        connection.connect(str(samba_dir / "np" / name))
        connection.sendall(ALICE)
        assert len(connection.recv(36, socket.MSG_WAITALL)) == 36
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for name, connection in connections.items():
            for _ in range(200):
                began = time.perf_counter()
                connection.sendall(message)
                connection.recv(len(message), socket.MSG_WAITALL)
                times[name].append(time.perf_counter() - began)
    report("direct 64 B", times)


def report(what: str, times: dict[str, list[float]]) -> None:
    """Print medians, 99th percentiles and the ratio."""
    mine, bare = (times[name] for name in ("exported", "bare"))
    print(
        f"{what}: exported p50 {percentile(mine, 0.5):.0f} us p99 {percentile(mine, 0.99):.0f}, "
        f"bare p50 {percentile(bare, 0.5):.0f} us p99 {percentile(bare, 0.99):.0f}, "
        f"ratio {median(mine) / median(bare):.2f}",
        flush=True,
    )


def main() -> int:
    """Run all of it."""
    from npipe.samba import PrivateSmbd

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=8.0, help="for each size")
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--turns", type=int, default=50)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="npipe-bench-") as folder, PrivateSmbd(f"{folder}/s", port=14455) as smbd:
        os.environ["NPIPE_ROOT"] = f"{folder}/root"
        smbd.add_user("alice", PASSWORD, local_user="games")
        (smbd.samba_dir / "np").mkdir(mode=0o700)
        smbd.start()
        servers = []
        try:
            for script in (SERVER, BARE):
                command = [sys.executable, "-c", script, str(smbd.samba_dir)]
                servers.append(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
                stdout = servers[-1].stdout
                assert stdout is not None
                assert stdout.readline() == "ready\n"
            direct(smbd.samba_dir, options.seconds / 4)
            through_smbd(smbd.port, (64, 65535), options.seconds)
            crowd(smbd.port, options.clients, options.turns)
        finally:
            for server in servers:
                server.kill()
                server.communicate()
    return 0


if __name__ == "__main__":
    sys.exit(main())
