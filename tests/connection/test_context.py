"""npipe.connection.context: queues, pools, executors and managers of multiprocessing's on npipe's connections."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import queue
import signal
import threading
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import forkserver
from typing import Any

import pytest

from npipe.connection import Connection, context
from tests.connection.helpers import METHODS, Direction, pattern
from tests.helpers import stop

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(params=METHODS)
def ctx(request: pytest.FixtureRequest) -> Any:
    # One that runs already has another test's root.
    forkserver._forkserver._stop()  # type: ignore[attr-defined]
    return context(request.param)


def test_a_context_is_multiprocessings_with_other_connections() -> None:
    default: Any = context()
    assert default.get_start_method() == multiprocessing.get_start_method()
    base: Any = multiprocessing.get_context(default.get_start_method())
    assert type(base) in type(default).__mro__
    assert default.Process is base.Process
    assert context(default.get_start_method()) is default
    assert all(isinstance(end, Connection) for end in default.Pipe())
    with pytest.raises(ValueError, match="nothing"):
        context("nothing")


def _put(into: Any, number: int, count: int) -> None:
    for at in range(count):
        into.put((number, at, pattern(at * 500, number)))


def test_a_queue_of_four_writers_keeps_each_ones_order(ctx: Any) -> None:
    shared = ctx.Queue()
    processes = [ctx.Process(target=_put, args=(shared, number, 100)) for number in range(4)]
    for process in processes:
        process.start()
    next_of = dict.fromkeys(range(4), 0)
    for _ in range(400):
        number, at, content = shared.get(timeout=60)
        assert at == next_of[number]
        assert content == pattern(at * 500, number)
        next_of[number] += 1
    for process in processes:
        process.join()
    assert shared.empty()
    with pytest.raises(queue.Empty):
        shared.get(timeout=0.01)
    with pytest.raises(queue.Empty):
        shared.get_nowait()


LONG = 3_000_000  # bytes, many times what a channel holds


def _get_interrupted(shared: Any, how: dict[str, Any], events: dict[str, Any]) -> None:
    def handler(*_: object) -> None:
        events["handled"].set()
        raise KeyError

    signal.signal(signal.SIGUSR1, handler)
    with pytest.raises(KeyError):
        shared.get(**how)
    assert not shared.empty()
    events["raised"].set()
    assert events["again"].wait(60)
    got = [shared.get(**how)]
    if "block" in how:
        with pytest.raises(queue.Empty):
            shared.get_nowait()
    events["result"].put(got == [pattern(LONG)])


def _get_one(shared: Any, events: dict[str, Any]) -> None:
    events["result"].put(shared.get())


def _put_two(shared: Any) -> None:
    shared.put(pattern(LONG))
    shared.put("second")


@pytest.mark.parametrize(
    ("kind", "how"), [("Queue", {}), ("Queue", {"block": True, "timeout": 60}), ("SimpleQueue", {})]
)
def test_a_getter_that_is_interrupted_in_a_message_does_not_stop_the_others(kind: str, how: dict[str, Any]) -> None:
    ctx: Any = context("fork")
    shared = getattr(ctx, kind)()
    direction = Direction(shared._reader)
    events = {one: ctx.Event() for one in ("handled", "raised", "again")} | {"result": multiprocessing.SimpleQueue()}
    writer = ctx.Process(target=_put_two, args=(shared,))
    first = ctx.Process(target=_get_interrupted, args=(shared, how, events))
    second = ctx.Process(target=_get_one, args=(shared, events))
    writer.start()
    try:
        direction.wait_until_full()
        stop(writer.pid)
        first.start()
        direction.wait_until_drained()
        os.kill(first.pid, signal.SIGUSR1)
        assert events["handled"].wait(30)  # at once
        second.start()
        os.kill(writer.pid, signal.SIGCONT)
        assert events["raised"].wait(30)
        second.join(30)  # while the first one has not asked again
        assert second.exitcode == 0
        assert events["result"].get() == "second"
        events["again"].set()
        first.join(30)
        assert first.exitcode == 0
        assert events["result"].get() is True
        writer.join(30)
        assert writer.exitcode == 0
    finally:
        for process in (writer, first, second):
            if process.pid is not None:
                process.kill()
                process.join()


def test_what_one_thread_has_kept_of_a_queue_is_another_s_too() -> None:
    ctx: Any = context("fork")
    shared = ctx.Queue()
    direction = Direction(shared._reader)

    class AlarmError(Exception):
        pass

    def ring(*_: object) -> None:
        os.kill(writer.pid, signal.SIGCONT)
        raise AlarmError

    def get(results: list[Any]) -> None:
        results.append(shared.get())

    writer = ctx.Process(target=_put_two, args=(shared,))
    writer.start()
    before = signal.signal(signal.SIGALRM, ring)
    try:
        direction.wait_until_full()
        stop(writer.pid)
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        with pytest.raises(AlarmError):
            shared.get()
        assert shared._reader.poll()
        results: list[Any] = []
        for _ in range(2):
            thread = threading.Thread(target=get, args=(results,))
            thread.start()
            thread.join(30)
        assert results == [pattern(LONG), "second"]
        with pytest.raises(queue.Empty):
            shared.get_nowait()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        writer.kill()
        writer.join()


class _Gate:
    """A queue's lock for its writers: who comes for it says so, and waits until the gate is opened."""

    def __init__(self) -> None:
        self.reached, self.opened = threading.Event(), threading.Event()

    def acquire(self) -> None:
        self.reached.set()
        assert self.opened.wait(60)

    def release(self) -> None:
        pass

    def __enter__(self) -> None:
        self.acquire()

    def __exit__(self, *_: object) -> None:
        self.release()


@pytest.mark.parametrize("kind", ["Queue", "SimpleQueue"])
def test_what_waits_for_its_turn_in_a_queue_keeps_its_length(kind: str) -> None:
    ours: Any = context("fork")
    shared = getattr(ours, kind)()
    shared._wlock = gate = _Gate()
    content = bytearray(pattern(300_000))
    putter = threading.Thread(target=shared.put, args=([content, "last"],))
    putter.start()
    assert gate.reached.wait(60)  # how long each part is has been said
    try:
        with pytest.raises(BufferError):
            content.extend(b"more")
    finally:
        gate.opened.set()
    assert shared.get() == [bytearray(pattern(300_000)), "last"]
    putter.join()
    shared.put("next")
    assert shared.get() == "next"


class _Interrupted:
    """A queue's semaphore after whose release a signal comes: the message is out of the connection then."""

    def __init__(self, semaphore: Any) -> None:
        self._semaphore = semaphore

    def release(self) -> None:
        self._semaphore.release()
        signal.raise_signal(signal.SIGUSR1)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._semaphore, name)


@pytest.mark.parametrize("how", [{}, {"timeout": 30}, {"block": False}], ids=["waits", "timeout", "looks"])
@pytest.mark.parametrize("size", [100, 300_000])
def test_a_get_in_a_handler_takes_nothing_of_the_one_that_it_interrupts(how: dict[str, Any], size: int) -> None:
    ours: Any = context("fork")
    outer, inner = ours.Queue(), ours.Queue()
    outer.put(bytearray(pattern(size, 2)))
    inner.put(bytearray(pattern(size, 3)))
    assert outer._reader.poll(30)
    assert inner._reader.poll(30)
    got = []
    before = signal.signal(signal.SIGUSR1, lambda *_: got.append(inner.get(timeout=30)))
    outer._sem = _Interrupted(outer._sem)
    try:
        assert outer.get(**how) == pattern(size, 2)
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert got == [pattern(size, 3)]
    for one in (outer, inner):
        with pytest.raises(queue.Empty):
            one.get(block=False)
        with pytest.raises(queue.Empty):
            one.get(timeout=0.01)
        one.close()
        with pytest.raises(ValueError, match="is closed"):
            one.get()


def test_a_bounded_queue_is_full(ctx: Any) -> None:
    shared = ctx.Queue(2)
    shared.put(1)
    shared.put(bytearray(pattern(100_000)))
    with pytest.raises(queue.Full):
        shared.put(3, timeout=0.01)
    assert (shared.get(), shared.get()) == (1, pattern(100_000))


def test_an_object_that_cannot_be_pickled_does_not_end_the_queue(capfd: pytest.CaptureFixture[str]) -> None:
    shared = context().Queue()
    shared.put(lambda: None)
    shared.put("after")
    assert shared.get(timeout=20) == "after"
    assert "pickle" in capfd.readouterr().err


def _work(shared: Any, results: Any) -> None:
    while (item := shared.get()) is not None:
        results.put(item * 2)
        shared.task_done()
    shared.task_done()


def test_a_joinable_queue_joins(ctx: Any) -> None:
    shared, results = ctx.JoinableQueue(), ctx.SimpleQueue()
    workers = [ctx.Process(target=_work, args=(shared, results)) for _ in range(2)]
    for worker in workers:
        worker.start()
    for number in range(20):
        shared.put(number)
    shared.join()
    assert sorted(results.get() for _ in range(20)) == [number * 2 for number in range(20)]
    for _ in workers:
        shared.put(None)
    for worker in workers:
        worker.join()


def _turned(block: bytearray) -> bytearray:
    block.reverse()
    return block


def test_a_pool_maps_over_100_mebibytes(ctx: Any) -> None:
    blocks = [bytearray(pattern(5 * 2**20, seed)) for seed in range(20)]
    with ctx.Pool(2) as pool:
        for seed, got in enumerate(pool.imap(_turned, blocks)):
            assert type(got) is bytearray
            assert got == pattern(5 * 2**20, seed)[::-1]


def _fails(number: int) -> int:
    if number == 3:
        raise ValueError("three")
    return number


def test_a_pool_hands_errors_on(ctx: Any) -> None:
    with ctx.Pool(2) as pool:
        with pytest.raises(ValueError, match="three"):
            pool.map(_fails, range(5))
        assert pool.map(_fails, [1, 2]) == [1, 2]


def test_an_executor_has_npipes_queues(ctx: Any) -> None:
    blocks = [bytearray(pattern(2**20, seed)) for seed in range(6)]
    with ProcessPoolExecutor(2, mp_context=ctx) as executor:
        assert list(executor.map(_turned, blocks)) == [pattern(2**20, seed)[::-1] for seed in range(6)]
        inner: Any = executor
        assert isinstance(inner._call_queue._writer, Connection)
        assert isinstance(inner._result_queue._reader, Connection)
        with pytest.raises((pickle.PicklingError, AttributeError)):
            executor.submit(lambda: 1).result(30)
        assert executor.submit(_fails, 1).result(30) == 1
    with ProcessPoolExecutor(1) as plain:
        assert plain.submit(_fails, 2).result(30) == 2
        assert not isinstance(plain._call_queue._writer, Connection)  # type: ignore[attr-defined]


def _die(_: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _answer_in_part(size: int) -> bytes:
    signal.signal(signal.SIGALRM, lambda *_: os.kill(os.getpid(), signal.SIGKILL))
    signal.setitimer(signal.ITIMER_REAL, 0.01)
    return pattern(size)


@pytest.mark.parametrize("work", [_die, _answer_in_part])
def test_a_worker_that_is_killed_breaks_the_executor_and_nobody_hangs(ctx: Any, work: Any) -> None:
    with ProcessPoolExecutor(2, mp_context=ctx) as executor:
        with pytest.raises(BrokenProcessPool):  # of the third one's submit, if it is late
            futures = [executor.submit(work, 50_000_000) for _ in range(3)]
            for future in futures:
                future.result(60)


def test_a_pool_replaces_a_worker_that_is_killed(ctx: Any) -> None:
    with ctx.Pool(2) as pool:
        pool.apply_async(_die, (0,))
        assert pool.map(_fails, [4, 5, 6, 7], chunksize=1) == [4, 5, 6, 7]


def _append(to: Any, item: Any) -> None:
    to.append(item)


def test_a_manager_of_the_context_shares_its_objects(ctx: Any) -> None:
    with ctx.Manager() as manager:
        assert manager.address.startswith(r"\\.\pipe")
        shared, lock = manager.list(), manager.Lock()
        with lock:
            process = ctx.Process(target=_append, args=(shared, pattern(100_000)))
            process.start()
            process.join()
        assert list(shared) == [pattern(100_000)]
