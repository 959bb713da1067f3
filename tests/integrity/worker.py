"""A process that writes and reads by plans, which come as lines of JSON on its standard input.

Orders: {"do": "run", "plan", "name", "serves"}, which is answered by {"is": "listening"} (a server) and then {"is":
"done", …} or {"is": "wrong" or "failed", "text"}; {"do": "account", "outcomes"}, with what the other process says of
its writes. The process ends with its standard input.
"""

from __future__ import annotations

import asyncio
import contextlib
import faulthandler
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import threading
import traceback
from io import RawIOBase
from typing import TYPE_CHECKING, Any

import npipe.aio
from tests.integrity import ends, faces, faces_sync, numbered
from tests.integrity.plans import MIB, WINDOWS, Plan

if TYPE_CHECKING:
    from collections.abc import Callable

    from _typeshed import WriteableBuffer

LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]]
if sys.platform == "win32":
    LOOPS = {"asyncio": asyncio.ProactorEventLoop}
else:
    import uvloop

    class _UvLoop(npipe.aio.PipeLoopMixin, uvloop.Loop):  # type: ignore[misc]  # uvloop has no types
        pass

    LOOPS = {"asyncio": npipe.aio.PipeEventLoop, "uvloop": _UvLoop}

PATIENCES = (0.0, 0.0, 0.00005, 0.0003, 0.001, 0.005)
PAUSE = 0.003


class Run:
    """One process's part of a plan."""

    def __init__(self, plan: Plan, name: str, *, serves: bool, say: Callable[..., None]) -> None:
        self.plan, self.name, self.serves, self._say = plan, name, serves, say
        self.is_first = serves == plan.first_serves
        self.face = plan.first if self.is_first else plan.second
        self.chance = random.Random(f"{plan.seed} {serves} chance")
        self.outcomes: list[list[list[str]]] = []  # of my writes, by connection and writer
        self._oracles: list[numbered.Oracle] = []  # of what I read, by connection
        self.figures = {"connections": 0, "bytes": 0, "writes": 0, "reads": 0, "in vain": 0, "withdrawn": 0}

    def go(self) -> None:
        """Do all of it."""
        if self.face in faces.LOOPS:
            with asyncio.Runner(loop_factory=LOOPS[self.plan.loop]) as runner:
                runner.run(self._all())
        else:
            ends.drive(self._all())

    async def _all(self) -> None:
        plan = self.plan
        writing = self.is_first or plan.kind not in ("stream", "copy")
        server = None
        if self.serves:
            server = await faces.listen(plan, self.chance, self.name, self.face, writing=writing)
            self._say("listening")
        for connection in range(plan.connections):
            if plan.kind == "call" and not self.serves:
                await self._ask(connection)
                continue
            if server is not None:
                end = await server.accept()
            else:
                end = await faces.connect(plan, self.chance, self.name, self.face, writing=writing)
            await getattr(self, f"_{plan.kind}")(end, connection)
            self.figures["connections"] += self.is_first
            await end.close()
        if server is not None:
            await server.close()

    def account(self, outcomes: list[list[list[str]]]) -> None:
        """Compare what was read with what the other process says of its writes."""
        for oracle, of_connection in zip(self._oracles, outcomes, strict=True):
            oracle.account(of_connection)

    # ---- A stream

    async def _stream(self, end: ends.End, connection: int) -> None:
        if self.is_first:
            await self._write_all(end, connection, "stream")
        else:
            await self._read_all(end, self._oracle("stream", connection))

    async def _both(self, end: ends.End, connection: int) -> None:
        mine, theirs = ("there", "back") if self.is_first else ("back", "there")
        oracle = self._oracle(theirs, connection)
        await end.together([self._write_all(end, connection, mine), self._read(end, oracle, until_complete=True)])

    async def _write_all(self, end: ends.End, connection: int, what: str) -> None:
        logs: list[list[str]] = [[] for _ in range(self.plan.writers)]
        self.outcomes.append(logs)
        works = [self._write(end, connection, what, writer, log) for writer, log in enumerate(logs)]
        with contextlib.suppress(ends.Torn):
            await end.together(works)
            await end.settle()
            if self.face in ("file", "stream"):
                await end.flush()
        for log in logs:
            self.figures["writes"] += len(log)
            self.figures["withdrawn"] += len(log) - log.count(numbered.SENT)

    async def _write(self, end: ends.End, connection: int, what: str, writer: int, log: list[str]) -> None:
        plan, offset = self.plan, 0
        chance = random.Random(f"{plan.seed} {connection} {what} {writer} writing")
        key = f"{plan.seed} {connection} {what}"
        stream = numbered.Numbered(f"{key}/{writer}" if plan.framed else key)
        for number, size in enumerate(plan.sizes_of(what, connection, writer)):
            data = numbered.frame(stream, writer, number, size, offset) if plan.framed else stream.piece(offset, size)
            offset += size
            # Not the first one: a client that leaves nothing to read may be passed over by a listener.
            patience = chance.choice(PATIENCES) if number and chance.random() < plan.writer_hurry else None
            try:
                await end.write(data, patience, log)
            except ends.Torn:
                log[-1] = numbered.TORN
                raise
            self.figures["bytes"] += size
            if chance.random() < plan.writer_pauses:
                await end.pause(chance.random() * PAUSE)
            if chance.random() < plan.flushes:
                await end.flush()

    def _oracle(self, what: str, connection: int) -> numbered.Oracle:
        plan = self.plan
        key = f"{plan.seed} {connection} {what}"
        strict = plan.writer_hurry == 0
        oracle: numbered.Oracle
        if plan.framed:
            oracle = self._frames(what, connection)
        else:
            sizes = plan.sizes_of(what, connection)
            if plan.message_mode:
                oracle = numbered.Messages(key, sizes, strict=strict, told=self.face in faces.WIN32)
            else:
                oracle = numbered.Bytes(key, sizes, strict=strict)
        self._oracles.append(oracle)
        return oracle

    def _frames(self, what: str, connection: int) -> numbered.Frames:
        plan = self.plan
        sizes = [plan.sizes_of(what, connection, writer) for writer in range(plan.writers)]
        return numbered.Frames(
            f"{plan.seed} {connection} {what}",
            sizes,
            strict=plan.writer_hurry == 0,
            messages=plan.message_mode,
            several=plan.readers > 1,
        )

    async def _read_all(self, end: ends.End, oracle: numbered.Oracle) -> None:
        if self.plan.readers == 1:
            await self._read(end, oracle)
        else:
            parts = [self._frames("stream", len(self._oracles) - 1) for _ in range(self.plan.readers)]
            await end.together([self._read(end, part) for part in parts])
            assert isinstance(oracle, numbered.Frames)
            oracle.merge(parts)
        oracle.finish()

    async def _read(self, end: ends.End, oracle: numbered.Oracle, *, until_complete: bool = False) -> None:
        plan = self.plan
        chance = random.Random(f"{plan.seed} {len(self._oracles)} reading")
        while not (until_complete and oracle.complete()):
            if chance.random() < plan.peeks:
                await self._peek(end, oracle, chance.choice(plan.reads) or 4096)
            patience = chance.choice(PATIENCES) if chance.random() < plan.reader_hurry else None
            try:
                got = await end.read(chance.choice(plan.reads), patience)
            except ends.Ended:
                break
            self.figures["reads"] += 1
            if got is None:
                self.figures["in vain"] += 1
                continue
            oracle.feed(*got)
            if chance.random() < plan.reader_pauses:
                await end.pause(chance.random() * PAUSE)
        oracle.finish()

    async def _peek(self, end: ends.End, oracle: numbered.Oracle, size: int) -> None:
        expected = oracle.upcoming(size)
        seen = await end.peek(size)
        if not (expected or b"").startswith(seen):
            begins = seen[:24].hex(" ")
            raise numbered.Wrong(f"a peek after {oracle.total} bytes saw {len(seen)} others, which begin with {begins}")

    # ---- Requests and answers

    async def _transact(self, end: ends.End, connection: int) -> None:
        plan = self.plan
        questions, answers = plan.sizes_of("question", connection), plan.sizes_of("answer", connection)
        asked = numbered.Numbered(f"{plan.seed} {connection} question")
        answered = numbered.Numbered(f"{plan.seed} {connection} answer")
        incoming = self._expected("answer" if self.is_first else "question", connection)
        chance = random.Random(f"{plan.seed} {self.is_first} transacting")
        question_at = answer_at = 0
        for question, answer in zip(questions, answers, strict=True):
            if self.is_first:
                hurry = chance.random() < plan.writer_hurry and question <= min(16384, plan.quota)
                got = await end.transact(
                    asked.piece(question_at, question),
                    chance.choice(plan.reads),
                    chance.choice(PATIENCES) if hurry else None,
                )
                # Out of time: the request stays sent, and its answer is the next message.
                if got is not None:
                    incoming.feed(*got)
                self.figures["in vain"] += got is None
                if got is None or got[1]:
                    await self._message(end, incoming, chance)
                self.figures["bytes"] += question + answer
            else:
                await self._message(end, incoming, chance)
                if chance.random() < plan.writer_pauses:
                    await end.pause(chance.random() * PAUSE)
                log: list[str] = []
                await end.write(answered.piece(answer_at, answer), None, log)
                await end.settle()
            question_at += question
            answer_at += answer
        incoming.finish()

    def _expected(self, what: str, connection: int) -> numbered.Messages:
        sizes = self.plan.sizes_of(what, connection)
        return numbered.Messages(f"{self.plan.seed} {connection} {what}", sizes, strict=True)

    async def _message(self, end: ends.End, incoming: numbered.Messages, chance: random.Random) -> None:
        """Read the rest of one message."""
        while True:
            if chance.random() < self.plan.peeks:
                await self._peek(end, incoming, 4096)
            got = await end.read(
                chance.choice(self.plan.reads),
                chance.choice(PATIENCES) if chance.random() < self.plan.reader_hurry else None,
            )
            self.figures["reads"] += 1
            if got is None:
                self.figures["in vain"] += 1
                continue
            incoming.feed(*got)
            if not got[1]:
                return

    async def _call(self, end: ends.End, connection: int) -> None:
        """Answer a call."""
        await self._transact(end, connection)

    async def _ask(self, connection: int) -> None:
        """Make a call."""
        plan = self.plan
        (question,), (answer,) = plan.sizes_of("question", connection), plan.sizes_of("answer", connection)
        asked = numbered.Numbered(f"{plan.seed} {connection} question")
        incoming = self._expected("answer", connection)
        incoming.feed(await faces.call(plan, self.name, self.face, asked.piece(0, question)), False)
        incoming.finish()
        self.figures["connections"] += 1
        self.figures["bytes"] += question + answer

    # ---- A file

    async def _copy(self, end: ends.End, connection: int) -> None:
        """shutil.copyfileobj through makefile."""
        assert isinstance(end, faces_sync.FileEnd)
        if self.is_first:
            source = _Source(f"{self.plan.seed} {connection} copy", sum(self.plan.sizes_of("copy", connection)))
            shutil.copyfileobj(source, end.file)
            end.file.flush()
            self.figures["bytes"] += source.offset
        else:
            oracle = numbered.Bytes(
                f"{self.plan.seed} {connection} copy", self.plan.sizes_of("copy", connection), strict=True
            )
            with tempfile.TemporaryFile() as copy:
                shutil.copyfileobj(end.file, copy, *filter(None, self.plan.reads))
                copy.seek(0)
                while data := copy.read(MIB):
                    oracle.feed(data, False)
            oracle.finish()


class _Source(RawIOBase):
    """A file of numbered bytes."""

    def __init__(self, key: str, size: int) -> None:
        self._numbered, self._size, self.offset = numbered.Numbered(key), size, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        view = memoryview(buffer).cast("B")
        data = self._numbered.piece(self.offset, min(len(view), self._size - self.offset))
        view[: len(data)] = data
        self.offset += len(data)
        return len(data)


# ---- The process


class Worker:
    """Takes the orders."""

    def __init__(self) -> None:
        self._run: Run | None = None
        self._cores = None if WINDOWS else os.sched_getaffinity(0)

    def say(self, what: str, **more: Any) -> None:
        print(json.dumps({"is": what, **more}), flush=True)

    def run(self, order: dict[str, Any]) -> None:
        plan = Plan(**order["plan"])
        if self._cores is not None:
            os.sched_setaffinity(0, sorted(self._cores)[: plan.cores])
        self._run = Run(plan, order["name"], serves=order["serves"], say=self.say)
        self._run.go()
        self.say("done", outcomes=self._run.outcomes, figures=self._run.figures)

    def account(self, order: dict[str, Any]) -> None:
        assert self._run is not None
        self._run.account(order["outcomes"])
        self.say("done")

    def take(self, order: dict[str, Any]) -> None:
        """Carry an order out, in a thread of its own: the main one waits for the end of standard input."""

        def guarded() -> None:
            try:
                getattr(self, order["do"])(order)
            except numbered.Wrong as wrong:
                self.say("wrong", text=str(wrong))
            except BaseException as error:
                self.say("failed", text=f"{error!r}\n{traceback.format_exc()}")

        threading.Thread(target=guarded, daemon=True).start()


def main() -> None:
    if not WINDOWS:
        faulthandler.register(signal.SIGUSR1, all_threads=True)
    worker = Worker()
    for line in sys.stdin:
        worker.take(json.loads(line))
    sys.stderr.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
