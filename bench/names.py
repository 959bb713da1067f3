"""What the scenarios, their columns and rows are called, for those who write and those who judge them."""

from __future__ import annotations

import os

NPIPE = "npipe"
INTO = "npipe, recv_into"
BASE = "multiprocessing.connection"
PAIR = "SEQPACKET pair"
STREAMS = "asyncio streams"
ZMQ = "pyzmq"
LIMIT = "engine in C"
LINE = "a word there and back in C"
COPY = "a copy in C"
SIZES = {64: "64 B", 4096: "4 KiB", 65536: "64 KiB", 1 << 20: "1 MiB"}
COPIED = 1 << 16  # from here on the copy is most of the work
CLIENTS = (1, 10, 100)
CONNECTIONS = 1000
CORES = len(os.sched_getaffinity(0))
READER = "CPU, a blocked reader"
IDLE = f"CPU, {CONNECTIONS:,} idle connections"
MEMORY = "memory per connection"
BARE_PYTHON = "Python alone"
FIRST_NAMES = "npipe, and its first names"
IMPORT = "start, import, end"
CYCLE = "connect + round trip + close"
ROUND_TRIP = "round trip, 64 B"
ONE_WAY = "one-way, 64 B"
KEPT_ROUND_TRIP = "neighbours keep (round trip)"
KEPT_ONE_WAY = "neighbours keep (one-way)"
NOTHING = "(a process without any)"
LINES = "64 lines there and back in C"
HAND = "a handing-over in C"
ICEORYX = "iceoryx2"
TAIL = (0.0, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.995, 0.999, 0.9995, 0.9999, 1.0)  # points of the curves
PERCENTILES = {"p50": 0.5, "p99": 0.99, "p99.9": 0.999, "worst": 1.0}
VIEW_SIZES = {64: "64 B", 65536: "64 KiB", 1 << 20: "1 MiB", 16 << 20: "16 MiB"}
FRAME = (1080, 1920, 3)
FRAME_BYTES = 1080 * 1920 * 3
FRAMES = "frames"
OBJECTS = "npipe.connection"
OBJECT_KINDS = ("64-byte objects", "dicts", "frames")
WAYS = {"round trip": True, "one-way": False}  # of objects, and whether they come back
ROWS = {  # what the peers do in a scenario that some of them meet in two ways
    "frames": {
        "npipe": "npipe, in place",
        "npipe.connection": "npipe.connection, arrays",
        "multiprocessing.connection": "multiprocessing.connection, arrays",
        "shared_memory": "shared_memory, in place",
        "iceoryx2": "iceoryx2, in place",
        "momentumx": "momentumx, in place",
    }
}
TRAFFIC = 1 << 30  # bytes through each connection, before its memory is looked at
HELD = "held by both sides"
HELD_OWN = "of it private"
CROWDS = "crowds"
CROWD_BASE = "SEQPACKET, threads"
CROWD_LIMIT = "engine in C, threads"
CROWD_SOCKETS = "SEQPACKET in C, threads"
LEAST = "least served / mean"
HELD_SHARED = "of it shared memory"
