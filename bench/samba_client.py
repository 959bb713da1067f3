"""Pipes of another machine: npipe's client beside smbprotocol alone and impacket, through one smbd, in turns.

    python -m bench.samba_client [--seconds 5] [--pipes 1,8,64,200,500]

The server is an exported pipe that answers each message with itself; all three sign. Beside transactions: opening a
pipe over a connection that is there, a first opening with its connection and logon, and many pipes at once, each with
a thread of its own, over one connection (impacket's is for one thread). Ratios are npipe's to smbprotocol's: of time
the median of rounds in turns, and of this process's CPU, which the machine's other work says less of. This process has
one processor, and the server and smbd have the others.
"""

from __future__ import annotations

import argparse
import itertools
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, Final, Protocol, Self

import npipe
from bench.samba import PASSWORD, SERVER, percentile
from npipe.transports.smb.connections import close_idle

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

HOST: Final = "127.0.0.1"
NAME: Final = "exported"
USER: Final = "alice"
SIZES: Final = (64, 65_535)  # the longest message that goes through Samba
BURST: Final = 20  # calls of one client, before it is another one's turn


class Peer(Protocol):
    """One client's library: a connection, and pipes over it."""

    def open(self) -> Any:
        """Open a pipe."""

    def call(self, pipe: Any, data: bytes) -> bytes:
        """Transact."""

    def shut(self, pipe: Any) -> None:
        """Close a pipe."""

    def close(self) -> None:
        """End the connection."""


class Npipe:
    """npipe."""

    def __init__(self, port: int) -> None:
        self._remote = npipe.Remote(USER, PASSWORD, port=port, auth="ntlm")
        self._name = rf"\\{HOST}\pipe\{NAME}"

    def open(self) -> Any:
        """See Peer.open."""
        return npipe.connect(self._name, remote=self._remote)

    def call(self, pipe: Any, data: bytes) -> bytes:
        """See Peer.call."""
        answer: bytes = pipe.transact(data)
        return answer

    def shut(self, pipe: Any) -> None:
        """See Peer.shut."""
        pipe.close()

    def close(self) -> None:
        """See Peer.close."""
        close_idle()


class Bare:
    """smbprotocol."""

    def __init__(self, port: int) -> None:
        from tests.samba.clients import Client

        self._client = Client(port, USER, password=PASSWORD)

    def open(self) -> Any:
        """See Peer.open."""
        return self._client.open(NAME)

    def call(self, pipe: Any, data: bytes) -> bytes:
        """See Peer.call."""
        return self._client.call(pipe, data)

    def shut(self, pipe: Any) -> None:
        """See Peer.shut."""
        pipe.close()

    def close(self) -> None:
        """See Peer.close."""
        self._client.close()

    def ask_for_credits(self, pipe: Any, count: int) -> None:
        """Have room for so many requests at once: it raises where there is none."""
        connection = self._client.connection
        while connection.sequence_window["high"] - connection.sequence_window["low"] < count:
            plain = connection.send

            def send(*arguments: Any, plain: Any = plain, **options: Any) -> Any:
                return plain(*arguments, credit_request=64, **options)

            connection.send = send
            try:
                self._client.call(pipe, b"credits")
            finally:
                connection.send = plain


class Impacket:
    """impacket."""

    def __init__(self, port: int) -> None:
        from impacket.smbconnection import SMBConnection

        self._connection = SMBConnection(HOST, HOST, sess_port=port)
        self._connection.login(USER, PASSWORD)
        self._tree = self._connection.connectTree("IPC$")

    def open(self) -> Any:
        """See Peer.open."""
        return self._connection.openFile(self._tree, f"\\{NAME}")

    def call(self, pipe: Any, data: bytes) -> bytes:
        """See Peer.call."""
        answer: bytes = self._connection.transactNamedPipe(self._tree, pipe, data)
        return answer

    def shut(self, pipe: Any) -> None:
        """See Peer.shut."""
        self._connection.closeFile(self._tree, pipe)

    def close(self) -> None:
        """See Peer.close."""
        self._connection.close()


PEERS: Final[dict[str, Callable[[int], Peer]]] = {"npipe": Npipe, "smbprotocol": Bare, "impacket": Impacket}


class Times:
    """The times of each peer, in rounds that it took in turn."""

    def __init__(self) -> None:
        self._rounds: dict[str, list[list[float]]] = {name: [] for name in PEERS}
        self._processor: dict[str, list[float]] = {name: [] for name in PEERS}  # seconds of this process, a step

    def round(self, name: str, count: int, step: Callable[[], object]) -> None:
        """Take the time of `count` steps."""
        times = []
        processor = time.process_time()
        for _ in range(count):
            began = time.perf_counter()
            step()
            times.append(time.perf_counter() - began)
        self._processor[name].append((time.process_time() - processor) / count)
        self._rounds[name].append(times)

    def row(self, what: str) -> str:
        """Return a row of the page's table."""
        cells = []
        for rounds in self._rounds.values():
            every = [one for times in rounds for one in times]
            cells.append(f"{show(percentile(every, 0.5))} / {show(percentile(every, 0.99))}" if every else "")
        mine, bare = self._rounds["npipe"], self._rounds["smbprotocol"]
        pairs = list(zip(mine, bare, strict=False))  # the last round may be one peer's only
        ratio = median(median(a) / median(b) for a, b in pairs)
        processor = median(self._processor["npipe"]) / median(self._processor["smbprotocol"])
        return f"| {what} | {' | '.join(cells)} | {ratio:.2f} | {processor:.2f} |"


def show(microseconds: float) -> str:
    """Return a time as the page has it."""
    return f"{microseconds:,.0f} µs" if microseconds < 10_000 else f"{microseconds / 1000:,.0f} ms"


def transactions(port: int, seconds: float) -> list[str]:
    """One pipe of each."""
    peers = {name: make(port) for name, make in PEERS.items()}
    pipes = {name: peer.open() for name, peer in peers.items()}
    rows = []
    turns = _turns()
    for size in SIZES:
        times, data = Times(), os.urandom(size)

        def step(name: str, data: bytes = data) -> None:
            if peers[name].call(pipes[name], data) != data:
                raise AssertionError(f"{name} got something else")

        end = time.monotonic() + seconds
        while time.monotonic() < end:
            for name in next(turns):
                times.round(name, BURST, lambda name=name: step(name))  # type: ignore[misc]
        rows.append(times.row(f"transceive of {size:,} bytes"))
    for name, peer in peers.items():
        peer.shut(pipes[name])
    times = Times()
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for name in next(turns):
            peer = peers[name]
            times.round(name, 5, lambda peer=peer: peer.shut(peer.open()))  # type: ignore[misc]
    rows.append(times.row("opening and closing a pipe"))
    for peer in peers.values():
        peer.close()
    times = Times()

    def anew(make: Callable[[int], Peer]) -> None:
        peer = make(port)
        peer.shut(peer.open())
        peer.close()

    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for name in next(turns):
            _until_no_connection()
            times.round(name, 1, lambda make=PEERS[name]: anew(make))  # type: ignore[misc]
    rows.append(times.row("the same, with connection and logon"))
    return rows


def _turns() -> Iterator[tuple[str, ...]]:
    """Give the peers in all orders: who comes behind a slow one finds smbd and the machine's caches cold."""
    return itertools.cycle(itertools.permutations(PEERS))


def _until_no_connection() -> None:
    close_idle()
    for thread in threading.enumerate():
        if thread.name.startswith("npipe-smb"):
            thread.join(10)


class Crowd:
    """Threads that transact at once, each over a pipe of its own of one connection."""

    def __init__(self, peer: Peer, count: int) -> None:
        self._peer = peer
        self._pipes = [peer.open() for _ in range(count)]
        if isinstance(peer, Bare):
            peer.ask_for_credits(self._pipes[0], count + 1)

    def run(self, turns: int) -> tuple[float, list[float]]:
        """Return the transactions of a second, and the time of each."""
        gate = threading.Barrier(len(self._pipes) + 1)
        times: list[float] = []

        def talk(pipe: Any) -> None:
            own, data = [], os.urandom(64)
            gate.wait(120)
            for _ in range(turns):
                began = time.perf_counter()
                if self._peer.call(pipe, data) != data:
                    raise AssertionError("something else came")
                own.append(time.perf_counter() - began)
            times.extend(own)

        threads = [threading.Thread(target=talk, args=(pipe,)) for pipe in self._pipes]
        for thread in threads:
            thread.start()
        gate.wait(120)
        began = time.perf_counter()
        for thread in threads:
            thread.join(120)
        taken = time.perf_counter() - began
        if len(times) != turns * len(threads):
            raise AssertionError("a client has failed")
        return len(times) / taken, times

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for pipe in self._pipes:
            self._peer.shut(pipe)
        self._peer.close()


def growth(port: int, counts: list[int], calls: int) -> list[str]:
    """Return rows: pipes at once, rates and times of npipe and of smbprotocol, and the ratio of the times for all."""
    rows = []
    for count in counts:
        turns = max(2, calls // count)
        with Crowd(Npipe(port), count) as mine, Crowd(Bare(port), count) as bare:
            rounds = []
            for number in range(4):
                first, second = (mine, bare)[:: 1 if number % 2 else -1]
                one, other = first.run(turns), second.run(turns)
                rounds.append((one, other) if first is mine else (other, one))
        rate = [median(one[side][0] for one in rounds) for side in (0, 1)]
        every = [[spent for one in rounds for spent in one[side][1]] for side in (0, 1)]
        ratio = median(one[1][0] / one[0][0] for one in rounds)
        cells = [
            f"{rate[side]:,.0f}/s, {show(percentile(every[side], 0.5))} / {show(percentile(every[side], 0.99))}"
            for side in (0, 1)
        ]
        rows.append(f"| {count} | {' | '.join(cells)} | {ratio:.2f} |")
        print(rows[-1], flush=True)
    return rows


def _part(server: int, smbd: int | None) -> None:
    """Give this process a processor that the server and smbd do not have: else it is chance which of them share one."""
    own, *others = sorted(os.sched_getaffinity(0))
    if others and smbd is not None:
        for process in (server, smbd):  # before there is a client: smbd's later processes take after it
            for thread in Path(f"/proc/{process}/task").iterdir():
                os.sched_setaffinity(int(thread.name), others)
        os.sched_setaffinity(0, {own})


def main() -> int:
    """Run all of it, and print the page's tables."""
    from npipe.samba import PrivateSmbd

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=5.0, help="for each row of the first table")
    parser.add_argument("--pipes", default="1,8,64,200,500", help="how many at once")
    parser.add_argument("--calls", type=int, default=1000, help="of all pipes together, in a round of the second table")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="npipe-bench-") as folder, PrivateSmbd(f"{folder}/s", port=14456) as smbd:
        os.environ["NPIPE_ROOT"] = f"{folder}/root"
        smbd.add_user(USER, PASSWORD, local_user="games")
        smbd.start()
        command = [sys.executable, "-c", SERVER, str(smbd.samba_dir)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
            assert server.stdout is not None
            assert server.stdout.readline() == "ready\n"
            _part(server.pid, smbd.pid)
            try:
                print("| | npipe | smbprotocol | impacket | time, npipe / smbprotocol | CPU |\n" + "| --- " * 6 + "|")
                for row in transactions(smbd.port, options.seconds):
                    print(row, flush=True)
                print("| pipes at once | npipe | smbprotocol | time, npipe / smbprotocol |\n| --- | --- | --- | --- |")
                growth(smbd.port, [int(count) for count in options.pipes.split(",")], options.calls)
            finally:
                server.kill()
    return 0


if __name__ == "__main__":
    sys.exit(main())
