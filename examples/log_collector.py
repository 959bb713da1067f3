r"""A collector of logs: programs log with Python's `logging`, one process writes all of it into one file.

    python examples/log_collector.py collect all.log        # until Ctrl-C
    python examples/log_collector.py work --records 5       # in other terminals, as often as you like

The pipe is inbound: clients write, and nobody answers. A record is one message, so records of many processes never mix.
Which process sent a record is the kernel's word (`client.pid`), not the sender's. A program waits a second for the
collector, and then for five seconds not at all: records that cannot be sent are counted, and the count is logged when
it works again.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
import time
from pathlib import Path
from typing import TextIO

import npipe

NAME = r"\\.\pipe\example-logs"

PATIENCE = 1.0  # seconds that a program waits for the collector
PAUSE = 5.0  # seconds until it tries again, after it has waited in vain


# ---- In the programs


class PipeHandler(logging.Handler):
    """Sends each record to the collector, as one message."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self._name = name
        self._pipe: npipe.MessagePipe | None = None
        self._not_before = 0.0  # nothing is tried until then, by time.monotonic
        self.lost = 0

    def emit(self, record: logging.LogRecord) -> None:
        """Send a record, or count it as lost; never raise."""
        try:
            text = self.format(record)
        except Exception:  # noqa: BLE001 - the program's mistake, and logging has a place for it
            self.handleError(record)
            return
        message = {"time": record.created, "level": record.levelname, "logger": record.name, "text": text}
        if time.monotonic() < self._not_before or not self._sent(message):
            self.lost += 1

    def _sent(self, message: dict[str, object]) -> bool:
        for _ in range(2):
            try:
                if self._pipe is None:
                    self._pipe = npipe.connect(self._name, access="write", wait_for_server=True, timeout=PATIENCE)
                if self.lost:
                    report = {"level": "WARNING", "logger": __name__, "text": f"{self.lost} records were lost"}
                    self._pipe.send(json.dumps(message | report).encode(), timeout=PATIENCE)
                    self.lost = 0
                self._pipe.send(json.dumps(message).encode(), timeout=PATIENCE)
            except npipe.PipeClosedError:  # by a collector that has ended; there may be another one
                self._pipe = None
            except npipe.PipeError:  # there is none, or it does not read
                break
            else:
                return True
        self._not_before = time.monotonic() + PAUSE
        return False

    def close(self) -> None:
        """Wait until the collector has read everything, a second at most. `logging.shutdown` calls this at the end."""
        self.acquire()
        try:
            pipe, self._pipe = self._pipe, None
        finally:
            self.release()
        if pipe is not None:
            try:
                pipe.flush(timeout=PATIENCE)
            except npipe.PipeError:
                self.lost += 1  # at least
            pipe.close()
        super().close()


# ---- The collector


class Collector:
    """Writes what comes into a file. Its `take` is a handler for npipe.serve."""

    def __init__(self, file: TextIO) -> None:
        self._file = file

    def take(self, message: bytes, client: npipe.Connection) -> None:
        """Write one record; a message that is none is written as what it is."""
        try:
            record = json.loads(message)
            line = f"{record['time']:.3f} {client.pid} {record['level']} {record['logger']}: {record['text']}"
        except (ValueError, TypeError, LookupError):
            line = f"- {client.pid} - no record: {message!r}"
        self._file.write(line.replace("\n", "\\n") + "\n")
        client.data["records"] = client.data.get("records", 0) + 1

    def arrive(self, client: npipe.Connection) -> None:
        """Ask who it is while it is there."""
        print(f"process {client.pid} of {client.user} has come", flush=True)

    def leave(self, client: npipe.Connection) -> None:
        """All that it has sent has been taken."""
        self._file.flush()
        print(f"process {client.pid} has gone after {client.data.get('records', 0)} records", flush=True)


def collect(name: str, path: Path) -> None:
    """Collect until Ctrl-C."""
    with path.open("a", encoding="utf-8") as file:
        collector = Collector(file)
        # "completion": one thread for all clients, mostly idle ones. So nothing here needs a lock.
        with npipe.serve(
            name,
            collector.take,
            model="completion",
            access="inbound",
            on_connect=collector.arrive,
            on_disconnect=collector.leave,
        ) as server:
            print(f"collecting from {server.name} into {path}; Ctrl-C ends it", flush=True)
            try:
                server.wait()
            except KeyboardInterrupt:
                print("ending", flush=True)


def work(name: str, records: int) -> None:
    """Be a program that logs."""
    handler = PipeHandler(name)
    logging.basicConfig(level=logging.INFO, format="%(message)s", handlers=[handler])
    logger = logging.getLogger("worker")
    for number in range(records):
        logger.info("step %d of %d", number + 1, records)
    logging.shutdown()
    print(f"process {os.getpid()}: {records} records logged, {handler.lost} lost")


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="A collector of logs, and a program that logs.")
    parser.add_argument("--name", default=NAME, help="the pipe's name (%(default)s)")
    roles = parser.add_subparsers(dest="role", required=True)
    collecting = roles.add_parser("collect", help="write what comes into a file")
    collecting.add_argument("file", type=Path)
    working = roles.add_parser("work", help="log some records")
    working.add_argument("--records", type=int, default=5)
    arguments = parser.parse_args()
    if arguments.role == "work":
        work(arguments.name, arguments.records)
        return
    try:
        collect(arguments.name, arguments.file)
    except OSError as error:  # of the file, or a PipeError: somebody collects there already
        sys.exit(str(error))


if __name__ == "__main__":
    main()
