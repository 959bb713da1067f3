"""The examples' link, where two processes would meet in a moment that is hard to hit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.protocol import driver
from tests.protocol.driver import content, digest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Pair = tuple[Any, Any]


@pytest.fixture
def pair(pipe_name: str) -> Iterator[Pair]:
    """A reader and a writer in this process."""
    reader, writer = driver.make("example", by_socket=False), driver.make("example", by_socket=False)
    reader.listen(pipe_name, "message", [1000, 1000], 1, 255)
    writer.connect(pipe_name)
    reader.accept()
    yield reader, writer
    writer.close()
    reader.close()
    reader.stop()


@pytest.mark.timeout(60)
def test_an_entry_whose_withdrawal_ends_between_two_looks_is_not_slept_over(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader, writer = pair
    consumer, producer = reader.link.consumer, writer.link.producer
    writer.start(1, 5000)
    writer.start(2, 5000)
    assert consumer.settle()  # it has parsed the first one's header
    left: list[Callable[[], None]] = []
    looks = 0
    end_moving, refresh = producer._end_moving, consumer.refresh
    monkeypatch.setattr(producer, "_end_moving", lambda *entry: left.append(lambda: end_moving(*entry)))
    assert writer.withdraw(0) == [True, 0]

    def refresh_late() -> None:
        nonlocal looks
        looks += 1
        if looks == 2:  # the reader has found the first one moving, and looks for the last time before it sleeps
            left.pop()()
        refresh()

    monkeypatch.setattr(consumer, "refresh", refresh_late)
    assert reader.receive() == digest(content(2, 5000))
