"""Writes that are withdrawn, by the examples and by npipe: nothing of them is read any more, nor lost of the quota."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from tests.protocol import driver
from tests.protocol.conftest import PAIRS
from tests.protocol.driver import content, digest

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.protocol.conftest import End

QUOTA = 3000
STEPS = 250
MOST_ENTRIES, MOST_BYTES = 28, 40_000  # since the ring was empty: all of it is in the ring then

pytestmark = [pytest.mark.timeout(180), pytest.mark.parametrize(("server_form", "client_form"), PAIRS)]


@dataclass
class Message:
    seed: int
    size: int
    read: int = 0
    over: bool = False
    done: bool = False
    withdrawn: bool = False


class Walk:
    """A writer and a reader, one step after the other, beside a model of them. (Both are in this process.)"""

    def __init__(self, writer: Any, reader: Any, seed: int) -> None:
        self.writer, self.reader = writer, reader
        self.draw = random.Random(seed)
        self.messages: list[Message] = []
        self.first = 0  # of those since the ring was empty

    def unread(self) -> list[Message]:
        return [one for one in self.messages if not one.over and not one.withdrawn]

    def settle(self) -> None:
        """What is complete by now, in the model and there."""
        sum_so_far = 0
        for one in self.unread():
            sum_so_far += one.size - one.read
            one.done = one.done or one.size == 0 or sum_so_far <= QUOTA
        for one in self.messages:
            one.done = one.done or (one.over and not one.withdrawn)
        assert self.writer.done() == [one.done for one in self.messages]

    def start(self) -> None:
        size = self.draw.choice([0, 1, 50, 127, 128, 700, QUOTA - 1, QUOTA, QUOTA + 1, 9000])
        self.messages.append(Message(len(self.messages), size))
        self.writer.start(len(self.messages) - 1, size)

    def withdraw(self) -> None:
        pending = [index for index, one in enumerate(self.messages) if not one.done and not one.withdrawn]
        if not pending:
            return
        which = self.draw.choice([*pending, pending[-1], pending[0]])
        withdrawn, delivered = self.writer.withdraw(which)
        assert withdrawn
        assert delivered in (self.messages[which].read, None)
        self.messages[which].withdrawn = True

    def read(self) -> None:
        unread = self.unread()
        if not unread:
            return
        one = unread[0]
        size = self.draw.choice([1, 100, QUOTA - 1, 4000, 10_000])
        data = content(one.seed, one.size)[one.read : one.read + size]
        one.read += len(data)
        one.over = one.read == one.size
        assert self.reader.read(size) == [digest(data), not one.over]

    def drain(self) -> None:
        """Until the ring is empty: what comes behind has skipped all that was withdrawn."""
        self.messages.append(Message(len(self.messages), 0))
        self.writer.start(len(self.messages) - 1, 0)
        while self.unread():
            self.read()
            self.settle()
        self.first = len(self.messages)

    def run(self) -> None:
        for _ in range(STEPS):
            here = self.messages[self.first :]
            if len(here) >= MOST_ENTRIES or sum(one.size for one in here) > MOST_BYTES:
                self.drain()
            self.draw.choice([self.start, self.start, self.read, self.withdraw])()
            self.settle()
        self.drain()


def test_the_reader_gets_what_was_not_withdrawn_and_the_writer_has_all_of_its_quota(
    pipe_name: str, server_form: str, client_form: str
) -> None:
    for seed in range(6):
        server, client = (
            driver.make(form.partition(" ")[0], by_socket="socket" in form) for form in (server_form, client_form)
        )
        server.listen(f"{pipe_name}-{seed}", "message", [QUOTA, QUOTA], 1, 255)
        client.connect(f"{pipe_name}-{seed}")
        server.accept()
        try:
            Walk(client, server, seed).run()
            Walk(server, client, seed).run()
        finally:
            client.close()
            server.close()
            server.stop()


@pytest.mark.parametrize("quota", [0, 5000])
def test_writes_that_run_out_of_time_while_they_are_read_have_never_been_there(
    joined: Callable[..., tuple[End, End]], server_form: str, client_form: str, quota: int
) -> None:
    server, client = joined(server_form, client_form, "message", (quota, quota))
    count, last = 200, (12345, 200_000)
    for sender, receiver in ((client, server), (server, client)):
        receiver.begin("receive_until", digest(content(*last)))
        written = sender("send_some", 1, count, 50_000, 0.004)
        sender("send", *last)
        sizes = {number: random.Random(-number).randrange(50_000) for number in range(1, count + 1)}
        assert receiver.answer() == [digest(content(number, sizes[number])) for number in written]
