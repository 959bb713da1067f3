"""Random scenarios in the corpus' format, for recording on a real Win32 and replaying on npipe.win32 (README.md).

    python3 -m tests.conformance.generate --seed 7 --count 500 > new.jsonl
    python3 -m tests.conformance.generate --record 'wine /path/to/python.exe' new.jsonl > recorded.jsonl

The same seed gives the same scenarios. The model of SEMANTICS §0.3 (tests/pipe_model.py) says which calls would block:
these are made by actors, and finished when another step has released them. What DIFFERENCES.md leaves out is left out.
`--record` runs each scenario twice and drops what hangs or does not give the same twice.
"""

from __future__ import annotations

import argparse
import importlib
import json
import random
import string
from dataclasses import dataclass, field
from typing import Any

from tests import pipe_model as m

replay: Any = importlib.import_module("tests.conformance.replay")  # has no annotations

Step = dict[str, Any]
QUOTAS = [0, 1, 10, 16, 64, 100, 256, 4096]
READ_SIZES = [0, 1, 2, 4, 10, 10, 30, 100, 5000]
PEEK_SIZES = [0, 1, 5, 20, 30, 200]
MOST_PENDING = 12
UNLIMITED = 255


@dataclass(eq=False)
class Flight:
    """An operation that was started: with an OVERLAPPED (`ov`), or by an actor that is blocked in it."""

    op: m.Op
    end: Live
    thread: str
    ov: str | None = None
    actor: str | None = None
    looks: bool = True  # whether its result may be asked for while it is pending

    @property
    def pending(self) -> bool:
        return self.op.code == m.PENDING


@dataclass(eq=False)
class Live:
    """A handle that is open."""

    name: str
    end: m.End
    overlapped: bool
    reads: bool
    writes: bool
    flights: list[Flight] = field(default_factory=list)

    @property
    def server(self) -> bool:
        return isinstance(self.end, m.Instance)

    @property
    def blocked(self) -> bool:
        return any(flight.actor is not None for flight in self.flights)

    @property
    def pending(self) -> list[Flight]:
        return [flight for flight in self.flights if flight.pending]


class Flush(m.Op):
    """A flush that an actor is blocked in: over when everything has been read."""


class Scenario:
    """One scenario: steps, and the model beside them."""

    def __init__(self, seed: str) -> None:
        self.random = random.Random(seed)
        pick = self.random.choice
        self.steps: list[Step] = []
        self.type = pick(["byte", "msg", "msg"])
        self.kinds = pick([["sync"], ["ov"], ["nb"], ["ov", "sync"], ["nb", "ov"], ["nb", "ov", "sync"]])
        self.threads = self.random.random() < 0.5
        self.direction = pick(["duplex", "duplex", "duplex", "in", "out"])
        self.most = pick([1, 2, 2, 3, UNLIMITED])
        self.out, self.into = pick(QUOTAS), pick(QUOTAS)
        self.pipe = m.Pipe(m.MESSAGE if self.type == "msg" else m.BYTE, self.most)
        self.live: list[Live] = []
        self.known: dict[str, Flight] = {}  # the latest of each OVERLAPPED
        self.spare: list[str] = []  # OVERLAPPEDs with nothing under way before the step
        self.eventless: set[str] = set()
        self.failed: set[str] = set()
        self.idle: list[str] = []  # actors
        self.number = self.clock = 0

    @property
    def family(self) -> str:
        return f"generated-{self.type}-{'+'.join(self.kinds)}{'-threads' if self.threads else ''}"

    # ---- Making a scenario

    def make(self, length: int) -> list[Step]:
        self.create_instance()
        while len(self.steps) < length:
            self.one()
            self.settle_flushes()
            self.finish_some()
        self.release()
        for live in list(self.live):
            if not live.blocked:
                self.step(op="peek", h=live.name, size=30)
        for ov, flight in self.known.items():
            if flight.looks or not flight.pending:
                self.step(op="get_result", h=flight.end.name, ov=ov)
        return self.steps

    def one(self) -> None:
        actions = [
            (self.write, 30),
            (self.read, 26),
            (self.peek, 12),
            (self.look, 14),
            (self.open, 9),
            (self.connect, 8),
            (self.set_state, 6),
            (self.transact, 6),
            (self.create_instance, 5),
            (self.cancel, 4),
            (self.flush, 4),
            (self.question, 4),
            (self.new_overlapped, 4),
            (self.disconnect, 3),
            (self.close, 3),
            (self.wait, 2),
            (self.call, 1),
            (self.set_event, 1),
        ]
        self.spare = [ov for ov, flight in self.known.items() if not flight.pending]
        action = self.random.choices([one for one, _ in actions], [weight for _, weight in actions])[0]
        action()

    def step(self, **fields: Any) -> None:
        self.steps.append(fields)

    def name(self, letter: str) -> str:
        self.number += 1
        return f"{letter}{self.number}"

    def any_end(self) -> Live | None:
        """A handle that no actor is blocked in, connected ones more often."""
        free = [live for live in self.live if not live.blocked]
        connected = [live for live in free if live.end.link is not None]
        if connected and self.random.random() < 0.85:
            return self.random.choice(connected)
        return self.random.choice(free) if free else None

    def payload(self) -> tuple[str, bytes]:
        kind = self.random.random()
        if kind < 0.1:
            return "", b""
        if kind < 0.7:
            start, length = self.random.randrange(16), self.random.choice([1, 2, 3, 5, 10])
            text = string.ascii_lowercase[start : start + length]
            return text, text.encode()
        near = self.random.choice([self.out, self.into, 20, 2 * self.out])
        text = f"@{min(9000, max(0, near + self.random.choice([-1, 0, 1, 5])))}:{self.random.randrange(10)}"
        return text, replay.decode_payload(text)

    # ---- Threads and OVERLAPPEDs

    def actor(self) -> str | None:
        if not self.threads:
            return None
        return self.idle.pop() if self.idle else self.name("p")

    def blocks(self, live: Live, op: m.Op, fields: Step) -> None:
        """A call that blocks: an actor makes it, or nobody."""
        actor = self.actor()
        assert actor is not None
        live.flights.append(Flight(op, live, actor, actor=actor))
        self.step(**fields, actor=actor, start=True)
        if self.random.random() < 0.4:
            self.step(op="running", actor=actor)

    def finish_some(self) -> None:
        for live in self.live:
            for flight in [one for one in live.flights if one.actor is not None and not one.pending]:
                if self.random.random() < 0.7:
                    self.finish(live, flight)

    def finish(self, live: Live, flight: Flight) -> None:
        assert flight.actor is not None
        self.step(op="finish", actor=flight.actor)
        live.flights.remove(flight)
        self.idle.append(flight.actor)

    def settle_flushes(self) -> None:
        for live in self.live:
            for flight in live.pending:
                if isinstance(flight.op, Flush) and live.end.flushes_at_once():
                    flight.op.done(0)

    def release(self) -> None:
        """Let every actor come to its end: whoever is blocked is released by the other side."""
        for _ in range(20):
            self.settle_flushes()
            for live in list(self.live):
                for flight in [one for one in live.flights if one.actor is not None and not one.pending]:
                    self.finish(live, flight)
            stuck = [live for live in self.live if live.blocked]
            if not stuck:
                return
            live = stuck[0]
            if live.end.link is None:  # a server in ConnectNamedPipe
                self.open()
                continue
            others = [other for other in self.live if other.end.link is live.end.link and other is not live]
            free = [other for other in others if not other.blocked]
            if free:
                self.close_end(free[0])
            else:  # both ends are blocked, in flushes or writes: nothing here gets them out
                raise Unfinished

    def overlapped(self) -> str:
        """An OVERLAPPED with nothing under way."""
        free = [ov for ov in self.spare if ov in self.known]
        if free and self.random.random() < 0.2:
            return self.random.choice(free)
        return self.name("a")

    def starts(self, live: Live, op: m.Op | None, fields: Step, *, looks: bool = True) -> None:
        """An operation with an OVERLAPPED; None: it fails at once."""
        ov = self.overlapped()
        if ov not in self.known and self.random.random() < 0.15:
            self.describe(ov)
        self.step(**fields, ov=ov)
        flight = Flight(op or m.Op("failed", code=0), live, "main", ov=ov, looks=looks)
        self.known[ov] = flight
        (self.failed.add if op is None else self.failed.discard)(ov)
        live.flights.append(flight)
        if self.random.random() < 0.5:
            self.look_at(ov)

    def describe(self, ov: str) -> None:
        event = self.random.random() > 0.1
        if not event:
            self.eventless.add(ov)
            self.step(op="new_ov", ov=ov, event=False)
        else:
            self.step(op="new_ov", ov=ov, manual=self.random.random() < 0.5, initial=self.random.random() < 0.5)

    def new_overlapped(self) -> None:
        free = [ov for ov, flight in self.known.items() if not flight.pending]
        if free:
            ov = self.random.choice(free)
            self.eventless.discard(ov)
            self.describe(ov)
            del self.known[ov]

    def look(self) -> None:
        if self.known:
            self.look_at(self.random.choice(list(self.known)))

    def look_at(self, ov: str) -> None:
        flight = self.known[ov]
        if flight.end.blocked or flight.end not in self.live:
            return
        if flight.pending and not flight.looks:
            return
        kind = self.random.random()
        if kind < 0.25 and ov not in self.eventless:
            self.step(op="signalled", ov=ov)
        elif kind < 0.35 and not flight.pending and ov not in self.failed:
            self.step(op="get_result", h=flight.end.name, ov=ov, wait=True)
        else:
            self.step(op="get_result", h=flight.end.name, ov=ov)

    def set_event(self) -> None:
        with_event = [ov for ov, flight in self.known.items() if ov not in self.eventless and not flight.pending]
        if with_event:
            op = self.random.choice(["set_event", "reset_event"])
            self.step(op=op, ov=self.random.choice(with_event))

    # ---- Instances and clients

    def mode_word(self, kind: str) -> str:
        read_mode = self.random.choice(["", " rmsg", " rmsg"]) if self.type == "msg" else ""
        return f"{self.type}{read_mode}{' nowait' if kind == 'nb' else ''}"

    def create_instance(self) -> None:
        if self.live and not self.pipe.instances:
            return  # only clients without a server are left: DIFFERENCES.md
        kind = self.random.choice(self.kinds)
        mode = self.mode_word(kind)
        overlapped = kind == "ov"
        name = self.name("s")
        words = self.direction + (" overlapped" if overlapped else "")
        if not self.live and self.random.random() < 0.1:
            words += " first"
        self.step(
            op="create_named_pipe", h=name, access=words, mode=mode, max=self.most, out=self.out, **{"in": self.into}
        )
        if len(self.pipe.instances) >= self.most:
            return
        bits = (m.READ_MESSAGE if "rmsg" in mode else 0) | (m.NOWAIT if "nowait" in mode else 0)
        instance = m.Instance(self.pipe, bits, self.out, self.into)
        self.clock += 1
        instance.since = self.clock
        self.live.append(Live(name, instance, overlapped, self.direction != "out", self.direction != "in"))

    def open(self) -> None:
        kind = self.random.choice(self.kinds)
        right = {"duplex": "rw", "in": "w", "out": "r"}[self.direction]
        listening = [one for one in self.pipe.instances if one.listening]
        access = right
        if listening and self.random.random() < 0.15:
            access = self.random.choice(["r", "w", "rw", "none", "read_attr"])
        name = self.name("c")
        fields: Step = {"op": "create_file", "h": name, "access": access}
        if kind == "ov":
            fields["flags"] = "overlapped"
        self.step(**fields)
        if not listening or (access in ("r", "w", "rw") and not set(access) <= set(right)):
            return
        instance = min(listening, key=lambda one: one.since)
        client = instance.accept()
        reads, writes = access in ("r", "rw"), access in ("w", "rw")
        live = Live(name, client, kind == "ov", reads, writes)
        self.live.append(live)
        if writes and self.random.random() < 0.6:
            self.set_mode(live, kind)

    def connect(self) -> None:
        servers = [live for live in self.live if live.server and not live.blocked]
        if not servers:
            return
        live = self.random.choice(servers)
        assert isinstance(live.end, m.Instance)
        fields = {"op": "connect", "h": live.name}
        waits = live.end.link is None and not live.end.nowait
        if waits and not live.overlapped and not self.threads:
            return
        self.clock += 1
        try:
            op: m.Op | None = live.end.connect(self.clock)
        except m.Failure:
            op = None
        if live.overlapped:
            self.starts(live, op, fields)
        elif op is None:
            self.step(**fields)
        else:
            self.blocks(live, op, fields)

    def disconnect(self) -> None:
        servers = [
            live
            for live in self.live
            if isinstance(live.end, m.Instance) and not live.blocked and live.end.link is not None
        ]
        if servers:
            live = self.random.choice(servers)
            assert isinstance(live.end, m.Instance)
            self.step(op="disconnect", h=live.name)
            live.end.disconnect()

    def close(self) -> None:
        live = self.any_end()
        if live is not None and (len(self.pipe.instances) > 1 or self.random.random() < 0.3 or not live.server):
            self.close_end(live)

    def close_end(self, live: Live) -> None:
        if live.pending:
            self.step(op="cancel_io", h=live.name)
            self.cancel_all(live)
        self.step(op=self.random.choice(["close", "close", "close_api"]), h=live.name)
        live.end.leave()
        self.live.remove(live)
        if self.random.random() < 0.15:
            self.step(op="peek", h=live.name, size=5)
        for ov in [ov for ov, flight in self.known.items() if flight.end is live]:
            del self.known[ov]

    def wait(self) -> None:
        self.step(op="wait_named_pipe", timeout=1)

    def call(self) -> None:
        """CallNamedPipe where it fails at once: nobody answers here."""
        listening = any(one.listening for one in self.pipe.instances)
        if self.pipe.instances and (self.direction == "duplex" or not listening):
            return
        self.step(op="call", data="ask", size=20, timeout=1)

    # ---- Reading and writing

    def write(self) -> None:
        live = self.any_end()
        if live is None:
            return
        text, data = self.payload()
        fields = {"op": "write", "h": live.name, "data": text}
        end = live.end
        talks = live.writes and end.link is not None and end.peer_open
        if not talks:
            self.attempt(live, fields)
            return
        queue = end.outbound
        if len(queue.entries) > MOST_PENDING:
            return
        at_once = end.nowait or queue.fits(data)
        if end.nowait and self.type == "msg" and queue.reads and not queue.fits(data):
            return  # Windows and the oracle differ
        if live.overlapped:
            self.starts(live, end.write(data), fields)
        elif at_once:
            end.write(data)
            self.step(**fields)
        elif self.threads:
            self.blocks(live, end.write(data), fields)

    def attempt(self, live: Live, fields: Step) -> None:
        """A call that fails at once."""
        if live.overlapped:
            self.starts(live, None, fields)
        else:
            self.step(**fields)

    def read(self) -> None:
        live = self.any_end()
        if live is None:
            return
        size = self.random.choice(READ_SIZES)
        fields = {"op": "read", "h": live.name, "size": size}
        end = live.end
        if not live.reads:
            self.attempt(live, fields)
            return
        if end.link is not None:
            if self.crosses_empty(end, size):
                return
            if not end.inbound.entries and end.peer_open and not end.nowait:
                if len(end.inbound.reads) > MOST_PENDING:
                    return
                if live.overlapped:
                    self.starts(live, end.read(size), fields)
                elif self.threads:
                    self.blocks(live, end.read(size), fields)
                return
        try:
            op: m.Op | None = end.read(size)
        except m.Failure:
            op = None
        if live.overlapped:
            self.starts(live, op, fields)
        else:
            self.step(**fields)

    def crosses_empty(self, end: m.End, size: int) -> bool:
        """A byte-mode read that would meet an empty message: not established."""
        if end.message_mode or self.type == "byte":
            return False
        seen = 0
        for entry in end.inbound.entries[:]:
            if not entry.data:
                return True
            seen += len(entry.data)
            if seen > size:
                return False
        return False

    def peek(self) -> None:
        live = self.any_end()
        if live is not None:
            self.step(op="peek", h=live.name, size=self.random.choice(PEEK_SIZES))

    def transact(self) -> None:
        live = self.any_end()
        if live is None or not (live.reads and live.writes):
            return
        size = self.random.choice([0, 2, 10, 50])
        fields: Step = {"op": "transact", "h": live.name, "data": self.payload()[0], "size": size}
        end = live.end
        if end.link is not None and end.inbound.reads:
            return
        try:
            op = end.transact(replay.decode_payload(fields["data"]), size)
        except m.Failure:
            if not live.overlapped:  # overlapped ones that fail at once: DIFFERENCES.md
                self.step(**fields)
            return
        if live.overlapped:
            self.starts(live, op, fields, looks=False)
        elif self.threads:
            self.blocks(live, op, fields)
        else:
            raise Unfinished

    def flush(self) -> None:
        live = self.any_end()
        if live is None or not live.writes:
            return
        fields = {"op": "flush", "h": live.name}
        if live.end.flushes_at_once():
            self.step(**fields)
        elif self.threads:
            self.blocks(live, Flush("flush"), fields)

    def cancel(self) -> None:
        live = self.any_end()
        if live is not None:
            self.step(op="cancel_io", h=live.name)
            self.cancel_all(live)

    def cancel_all(self, live: Live) -> None:
        for flight in live.pending[::-1]:
            live.end.cancel(flight.op)

    # ---- State

    def set_state(self) -> None:
        live = self.any_end()
        if live is not None and live.writes:
            self.set_mode(live, self.random.choice(self.kinds))

    def set_mode(self, live: Live, kind: str) -> None:
        read_mode = self.random.choice(["rbyte", "rmsg", "rmsg"]) if self.type == "msg" else "rbyte"
        if self.random.random() < 0.03:
            read_mode = "rmsg"
        nowait = kind == "nb"
        if live.pending:
            return  # a mode that changes under an operation is not established
        self.step(op="set_state", h=live.name, mode=read_mode + (" nowait" if nowait else ""))
        try:
            live.end.set_mode((m.READ_MESSAGE if read_mode == "rmsg" else 0) | (m.NOWAIT if nowait else 0))
        except m.Failure:
            return

    def question(self) -> None:
        live = self.any_end()
        if live is None or (live.server and not live.reads):
            return
        connected = live.end.link is not None
        ids = ["client_pid", "server_pid"] if connected else []
        infos = ["get_info"] if self.most != UNLIMITED else []  # the oracle has another number for it
        self.step(op=self.random.choice(["get_state", *infos, *ids]), h=live.name)


class Unfinished(Exception):  # noqa: N818
    """This scenario came to where nothing could release an actor."""


def scenarios(seed: int, count: int) -> list[dict[str, Any]]:
    """So many scenarios, without outcomes."""
    made: list[dict[str, Any]] = []
    number = 0
    while len(made) < count:
        one = Scenario(f"{seed}-{number}")
        number += 1
        try:
            steps = one.make(one.random.choice([10, 15, 20, 25, 30, 35, 40]))
        except Unfinished:
            continue
        made.append({"id": f"generated-{seed}-{number:05d}", "family": one.family, "scenario": {"steps": steps}})
    return made


def record(entries: list[dict[str, Any]], python: str, limit: float) -> list[dict[str, Any]]:
    """Run scenarios twice and give those that gave the same twice, with their outcomes."""
    command = [*python.split(), replay.__file__]
    flat = [{**entry["scenario"], "id": entry["id"]} for entry in entries]
    first = replay.run_corpus(flat, command, limit)
    whole = [one for one in flat if _is_whole(one, first)]
    second = replay.run_corpus(whole, command, limit)
    same = {one["id"] for one in whole if first[one["id"]] == second.get(one["id"])}
    return [{**entry, "outcomes": first[entry["id"]]} for entry in entries if entry["id"] in same]


def _is_whole(scenario: dict[str, Any], results: dict[str, list[list[Any]]]) -> bool:
    outcomes = results.get(scenario["id"], [])
    return len(outcomes) == len(scenario["steps"]) and not any(
        outcome[0] in ("hang", "crash", "broken", "exc") for outcome in outcomes
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", nargs="?", help="scenarios to record")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--record", metavar="PYTHON", help="the command that starts a Python for Windows")
    parser.add_argument("--limit", type=float, default=4.0, help="seconds for each scenario")
    arguments = parser.parse_args()
    if arguments.record:
        entries = record(replay.load_corpus(arguments.file), arguments.record, arguments.limit)
    else:
        entries = scenarios(arguments.seed, arguments.count)
    for entry in entries:
        print(json.dumps(entry, separators=(",", ":")))


if __name__ == "__main__":
    main()
