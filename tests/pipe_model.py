"""The model of SEMANTICS §0.3: pipes, instances, two queues. Nothing here touches the engine."""

from __future__ import annotations

from dataclasses import dataclass, field

PENDING = 997
BYTE, MESSAGE = 0, 4
READ_MESSAGE, NOWAIT = 2, 1
SERVER, CLIENT = 0, 1


class Failure(Exception):  # noqa: N818 - an outcome, not a mistake
    """A call fails at once with this code."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


@dataclass(eq=False)
class Op:
    """One operation that was started, and what it came to."""

    kind: str
    size: int = 0
    code: int = PENDING
    data: bytes = b""
    count: int = 0
    or_code: int | None = None  # what it may have come to as well, with nothing moved

    def done(self, code: int, data: bytes = b"", count: int | None = None) -> None:
        assert self.code == PENDING
        self.code, self.data = code, data
        self.count = len(data) if count is None else count


@dataclass(eq=False)
class Entry:
    """One write: what of it is unread, and the operation that waits for room."""

    data: bytes
    op: Op | None = None
    size: int = 0


class Queue:
    """One direction: entries or pending reads, never both."""

    def __init__(self, quota: int, type_: int) -> None:
        self.quota, self.type = quota, type_
        self.entries: list[Entry] = []
        self.reads: list[Op] = []

    @property
    def unread(self) -> int:
        return sum(len(entry.data) for entry in self.entries)

    # ---- Reading

    def take(self, size: int, *, message_mode: bool) -> tuple[int, bytes] | None:
        """(code, data) of a read; None when there is nothing."""
        if not self.entries:
            return None
        head = self.entries[0]
        if message_mode or size == 0:
            got, head.data = head.data[:size], head.data[size:]
            if head.data:
                self._settle()
                return (234 if message_mode else 0), got
            self._finish(self.entries.pop(0))
            self._settle()
            return 0, got
        got = b""
        while self.entries and len(got) < size:
            head = self.entries[0]
            part = head.data[: size - len(got)]
            got, head.data = got + part, head.data[len(part) :]
            if not head.data:
                self._finish(self.entries.pop(0))
        self._settle()
        return 0, got

    def _finish(self, entry: Entry) -> None:
        if entry.op is not None:
            entry.op.done(0, count=entry.size)
            entry.op = None

    def _settle(self) -> None:
        """Deferred writes that fit now are complete, in order."""
        ahead = 0
        for entry in self.entries:
            ahead += len(entry.data)
            if entry.op is not None:
                if ahead > self.quota:
                    return
                self._finish(entry)

    # ---- Writing

    def _feed(self, data: bytes, *, message_mode: bool) -> tuple[bytes, bool]:
        """Serve pending reads: (what is left, whether the write is used up)."""
        used = False
        while self.reads and (data or not used):
            read = self.reads.pop(0)
            got, data = data[: read.size], data[read.size :]
            read.done(234 if data and message_mode else 0, got)
            used = not data
            if used:
                break
        return data, used

    def write(self, data: bytes, op: Op | None, *, message_mode: bool, nowait: bool = False) -> int:
        """Queue a write: how many bytes it says it has written. `op` is None: it belongs to a transaction."""
        if not data and self.type == BYTE:
            if op is not None:
                op.done(0)
            return 0
        room = sum(read.size for read in self.reads)
        if nowait and data and op is not None and self.unread + max(0, len(data) - room) > self.quota:
            served = min(room, len(data)) if self.type == BYTE else 0
            if served:
                self._feed(data[:served], message_mode=message_mode)
            if self.type == BYTE:
                self.end_reads(0)  # those that are left asked for nothing, and get it of the rest
            op.done(0, count=served)
            return served
        rest, used = self._feed(data, message_mode=message_mode)
        if not used:
            entry = Entry(rest, op, len(data))
            self.entries.append(entry)
            if not data and op is not None:
                self._finish(entry)
            self._settle()
        elif op is not None:
            op.done(0, count=len(data))
        return len(data)

    def fits(self, data: bytes) -> bool:
        """Whether a write of it is complete at once."""
        room = sum(read.size for read in self.reads)
        return not data or self.unread + max(0, len(data) - room) <= self.quota

    # ---- Ending

    def cancel(self, op: Op) -> None:
        if op in self.reads:
            self.reads.remove(op)
        else:
            self.entries = [entry for entry in self.entries if entry.op is not op]
        op.done(995)
        self._settle()

    def pending(self) -> list[Op]:
        return [*self.reads, *(entry.op for entry in self.entries if entry.op is not None)]

    def end_reads(self, code: int) -> None:
        reads, self.reads = self.reads, []
        for read in reads:
            read.done(code)

    def discard(self, code: int) -> None:
        """The reader has gone, or the instance is disconnected: nothing can be read any more."""
        self.end_reads(code)
        ahead = 0
        failed = False
        for entry in self.entries:
            if entry.op is None:
                ahead += len(entry.data) if not failed else 0
            elif not failed or code != 109:
                failed = True
                entry.op.done(code)
            elif ahead + entry.size <= self.quota:  # the recorded scenarios have it so, Microsoft's pages do not
                ahead += entry.size
                entry.op.or_code = 109
                self._finish(entry)
            else:
                entry.op.done(code)
        self.entries = []

    def writer_closes(self) -> None:
        """What stands in the queue stays readable, and its writes are complete (SEMANTICS §3.4)."""
        for entry in self.entries:
            self._finish(entry)
        self.end_reads(109)


class Link:
    """One connection: what each side writes into, and what is still open."""

    def __init__(self, instance: Instance) -> None:
        pipe = instance.pipe
        self.to = {
            CLIENT: Queue(instance.out_quota, pipe.type),
            SERVER: Queue(instance.in_quota, pipe.type),
        }
        self.open = {SERVER: True, CLIENT: True}


@dataclass(eq=False)
class Pipe:
    type: int
    most: int
    instances: list[Instance] = field(default_factory=list)


class End:
    """What both ends' calls have in common. `trouble` is why there is no connection."""

    side: int

    def __init__(self, pipe: Pipe) -> None:
        self.pipe = pipe
        self.mode = 0
        self.link: Link | None = None
        self.closed = False

    @property
    def message_mode(self) -> bool:
        return bool(self.mode & READ_MESSAGE)

    @property
    def nowait(self) -> bool:
        return bool(self.mode & NOWAIT)

    @property
    def inbound(self) -> Queue:
        assert self.link is not None
        return self.link.to[self.side]

    @property
    def outbound(self) -> Queue:
        assert self.link is not None
        return self.link.to[1 - self.side]

    @property
    def peer_open(self) -> bool:
        return self.link is not None and self.link.open[1 - self.side]

    def peer_end(self) -> End:
        raise NotImplementedError

    def without_link(self) -> int:
        raise NotImplementedError

    # ---- Calls

    def read(self, size: int) -> Op:
        op = Op("read", size)
        if self.link is None:
            raise Failure(self.without_link())
        got = self.inbound.take(size, message_mode=self.message_mode)
        if got is not None:
            op.done(*got)
        elif not self.peer_open:
            raise Failure(109)
        elif self.nowait:
            raise Failure(232)
        else:
            self.inbound.reads.append(op)
        return op

    def write(self, data: bytes) -> Op:
        op = Op("write", len(data))
        if self.link is None:
            raise Failure(self.without_link())
        if not self.peer_open:
            raise Failure(232)
        self.outbound.write(data, op, message_mode=self.peer_end().message_mode, nowait=self.nowait)
        return op

    def transact(self, data: bytes, size: int) -> Op:
        if self.link is None:
            raise Failure(233 if self.side == CLIENT else 230)
        if not self.peer_open or not self.message_mode:
            raise Failure(230)
        if self.inbound.entries or self.inbound.reads:
            raise Failure(231)
        op = Op("transact", size)
        self.outbound.write(data, None, message_mode=self.peer_end().message_mode)
        self.inbound.reads.append(op)
        return op

    def peek(self, size: int) -> tuple[bytes, int, int]:
        if self.link is None:
            raise Failure(233 if self.side == CLIENT else 230)
        queue = self.inbound
        if not queue.entries and not self.peer_open:
            raise Failure(109)
        if self.pipe.type == MESSAGE:
            head = queue.entries[0].data if queue.entries else b""
            return head[:size], queue.unread, len(head) - min(size, len(head))
        seen = b"".join(entry.data for entry in queue.entries)[:size]
        return seen, queue.unread, -len(seen)

    def set_mode(self, mode: int) -> None:
        if self.link is None and self.side == CLIENT:
            raise Failure(233)
        if mode & READ_MESSAGE and self.pipe.type == BYTE:
            raise Failure(87)
        if mode & NOWAIT and not self.nowait and self.pending_io():
            raise Failure(231)
        self.mode = mode

    def instances(self) -> int:
        if self.link is None and self.side == CLIENT:
            raise Failure(233)
        return len(self.pipe.instances)

    def flushes_at_once(self) -> bool:
        return self.link is None or not self.peer_open or not self.outbound.entries

    def pending_io(self) -> list[Op]:
        if self.link is None:
            return []
        writes = [entry.op for entry in self.outbound.entries if entry.op is not None]
        return [*self.inbound.reads, *writes]

    def cancel(self, op: Op) -> None:
        queue = self.outbound if op.kind == "write" else self.inbound
        queue.cancel(op)

    def cancel_all(self) -> int:
        ops = self.pending_io()
        for op in ops[::-1]:  # from the last one, so that none is let through
            self.cancel(op)
        return len(ops)

    def leave(self) -> None:
        """This end is closed."""
        self.closed = True
        if self.link is None:
            return
        link, self.link = self.link, None
        link.open[self.side] = False
        link.to[self.side].discard(109)
        if link.open[1 - self.side]:
            link.to[1 - self.side].writer_closes()


class Client(End):
    side = CLIENT

    def __init__(self, instance: Instance) -> None:
        super().__init__(instance.pipe)
        self.instance = instance
        self.link = instance.link

    def peer_end(self) -> End:
        return self.instance

    def without_link(self) -> int:
        return 233


class Instance(End):
    side = SERVER

    def __init__(self, pipe: Pipe, mode: int, out_quota: int, in_quota: int) -> None:
        super().__init__(pipe)
        self.mode = mode
        self.out_quota, self.in_quota = out_quota, in_quota
        self.listening = True
        self.client: Client | None = None
        self.connects: list[Op] = []
        pipe.instances.append(self)
        self.since = 0  # when it began to listen

    def peer_end(self) -> End:
        assert self.client is not None
        return self.client

    def without_link(self) -> int:
        return 536 if self.listening else 233

    def connect(self, now: int) -> Op:
        if self.link is not None:
            raise Failure(535 if self.peer_open else 232)
        if not self.listening:
            self.listening, self.since = True, now
        if self.nowait:
            raise Failure(536)
        op = Op("connect")
        self.connects.append(op)
        return op

    def accept(self) -> Client:
        """A client opens it."""
        self.listening = False
        self.link = Link(self)
        self.client = Client(self)
        self._end_connects(0)
        return self.client

    def _end_connects(self, code: int) -> None:
        connects, self.connects = self.connects, []
        for op in connects:
            op.done(code)

    def disconnect(self) -> None:
        if self.link is None and not self.listening:
            raise Failure(233)
        self.listening = False
        self._end_connects(233)
        if self.link is not None:
            link, self.link = self.link, None
            for queue in link.to.values():
                queue.discard(233)
            if self.client is not None:
                self.client.link = None

    def cancel(self, op: Op) -> None:
        if op in self.connects:
            self.connects.remove(op)
            op.done(995)
        else:
            super().cancel(op)

    def cancel_all(self) -> int:
        connects = list(self.connects)
        for op in connects:
            self.cancel(op)
        return len(connects) + super().cancel_all()

    def leave(self) -> None:
        self._end_connects(109)
        self.listening = False
        self.pipe.instances.remove(self)
        super().leave()
