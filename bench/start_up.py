"""How long a program takes that imports a peer and ends: Python itself is the least."""

from __future__ import annotations

import subprocess
import sys
import time
from typing import TYPE_CHECKING

from .measure import Case, Quantity, interleave
from .names import BARE_PYTHON, BASE, FIRST_NAMES, IMPORT, NPIPE, STREAMS, ZMQ
from .processes import PeerFailedError

if TYPE_CHECKING:
    from collections.abc import Callable

    from .fleet import Settings
    from .processes import Session

_CODE = {
    BARE_PYTHON: "pass",
    NPIPE: "import npipe",
    FIRST_NAMES: "import npipe; npipe.connect, npipe.listen, npipe.serve",
    BASE: "import multiprocessing.connection",
    STREAMS: "import asyncio",
    ZMQ: "import zmq",
}


def start_up(_session: Session, settings: Settings) -> list[Case]:
    """Start Python, import one peer, and wait for the end of the process."""

    def task(code: str) -> Callable[[], float]:
        def run() -> float:
            began = time.perf_counter()
            done = subprocess.run([sys.executable, "-I", "-c", code], check=False, capture_output=True, text=True)
            if done.returncode:
                raise PeerFailedError(done.stderr.strip().rpartition("\n")[2])
            return time.perf_counter() - began

        return run

    peers = {name: code for name, code in _CODE.items() if name in {*settings.peers, BARE_PYTHON, FIRST_NAMES}}
    if NPIPE not in settings.peers:
        peers.pop(FIRST_NAMES)
    case = Case("import", IMPORT, Quantity.LATENCY)
    case.outcomes = interleave(2 * settings.rounds, {name: task(code) for name, code in peers.items()})
    return [case]
