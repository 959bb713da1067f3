"""Shortcuts over the engine's handles: pipes by keyword, calls in threads that are known to be blocked."""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import pytest

from npipe.errors import PipeError
from npipe.names import parse_name
from npipe.transports import default
from tests import rendezvous

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from _typeshed import ReadableBuffer, WriteableBuffer

if sys.platform == "win32":
    from tests.windows import handles as system
else:
    from npipe import binding as system

Handle = system.Handle

if sys.platform == "win32":
    MessageHandle = system.MessageHandle
else:

    class MessageHandle(Handle):
        """A handle that also has the methods of a message pipe."""

        def send(self, data: ReadableBuffer, *, timeout: float | None = None) -> None:
            system.MessageEnd(self).send(data, timeout=timeout)

        def recv(self, *, timeout: float | None = None) -> bytes:
            return system.MessageEnd(self).recv(timeout=timeout)

        def recv_into(self, buffer: WriteableBuffer, *, timeout: float | None = None) -> int:
            return system.MessageEnd(self).recv_into(buffer, timeout=timeout)


T = TypeVar("T")

AS_ROOT = pytest.mark.skipif(sys.platform == "win32" or os.geteuid() != 0, reason="only root can act as other users")

CHECKOUT = Path(__file__).parents[1]
"""Where `tests` is imported from, for a process that imports it too."""

DEADLINE = 5.0  # seconds for what should happen at once
BYTE, MESSAGE = 0, 4
INBOUND, OUTBOUND, DUPLEX = 1, 2, 3
READ_MESSAGE, NOWAIT = 2, 1
UNLIMITED = 255
GENERIC_READ, GENERIC_WRITE, READ_WRITE, NOTHING = 1 | 4, 2 | 8, 15, 4

_FUTEX = (202, 98)  # system calls' numbers on x86-64 and on arm64
_POLL = (7, 271, 73, 232, 281, 22)
_RECV = (45, 207)  # a read that waits for its peer's byte while neighbours want the processors
_SAMPLES = 50  # looks, a millisecond apart
_WAIT_BITSET = 9  # without FUTEX_PRIVATE_FLAG: never one of the interpreter's own locks


def place(name: str) -> tuple[str, str, str, str]:
    parsed = parse_name(name)
    return os.environ["NPIPE_ROOT"], parsed.folder, parsed.display, parsed.path


def create(
    name: str,
    *,
    type: int = MESSAGE,
    mode: int | None = None,
    direction: int = DUPLEX,
    quota: int = 65536,
    in_quota: int | None = None,
    out_quota: int | None = None,
    max_instances: int = UNLIMITED,
    first: bool = False,
    default_timeout_ms: int = 0,
) -> Handle:
    """CreateNamedPipe; in message-read mode when the type is message, unless `mode` says otherwise."""
    return Handle.create(
        *place(name),
        access=direction,
        first_instance=first,
        type=type,
        mode=(READ_MESSAGE if type == MESSAGE else 0) if mode is None else mode,
        max_instances=max_instances,
        out_quota=quota if out_quota is None else out_quota,
        in_quota=quota if in_quota is None else in_quota,
        default_timeout_ms=default_timeout_ms,
    )


def open_client(name: str, *, access: int = READ_WRITE, mode: int | None = None) -> Handle:
    """CreateFile without a wait, then perhaps SetNamedPipeHandleState."""
    handle = Handle.open(*place(name), access=access, hold=False, verify_owner=True, timeout=None)
    if mode is not None:
        handle.set_state(mode)
    return handle


def wait_named(name: str, timeout: float | None, *, use_default: bool = False) -> None:
    """WaitNamedPipe."""
    system.wait_named_pipe(*place(name), timeout, use_default)


def connected(
    name: str,
    *,
    type: int = MESSAGE,
    mode: int | None = None,
    direction: int = DUPLEX,
    quota: int = 65536,
    max_instances: int = UNLIMITED,
    default_timeout_ms: int = 0,
    in_quota: int | None = None,
    out_quota: int | None = None,
) -> tuple[Handle, Handle]:
    """A server's and a client's end, both in message-read mode when the type is message and they may."""
    server = create(
        name,
        type=type,
        direction=direction,
        mode=mode,
        quota=quota,
        in_quota=in_quota,
        out_quota=out_quota,
        max_instances=max_instances,
        default_timeout_ms=default_timeout_ms,
    )
    access = {INBOUND: GENERIC_WRITE, OUTBOUND: GENERIC_READ, DUPLEX: READ_WRITE}[direction]
    wanted = (READ_MESSAGE if type == MESSAGE else 0) if mode is None else mode
    client = open_client(name, access=access, mode=wanted if access & 8 else None)
    assert server.connect(DEADLINE) == 535
    return server, client


@contextlib.contextmanager
def fails(code: int) -> Iterator[None]:
    """The block raises a PipeError with this Win32 code."""
    with pytest.raises(PipeError) as caught:
        yield
    assert caught.value.winerror == code, f"{caught.value!r} has {caught.value.winerror}, expected {code}"


def has_code(error: BaseException, *codes: int) -> None:
    """Fails unless `error` is a PipeError with one of these codes."""
    if not isinstance(error, PipeError) or error.winerror not in codes:
        raise AssertionError(f"expected one of {codes}, got {error!r}") from error


def code_of(call: Callable[[], object]) -> int:
    """The Win32 code of a call: 0 when it returns."""
    try:
        call()
    except PipeError as error:
        return error.winerror
    return 0


def read(handle: Handle, size: int = 1 << 20, timeout: float | None = DEADLINE) -> tuple[int, bytes]:
    return handle.read_file(size, timeout)


def write(handle: Handle, data: bytes, timeout: float | None = DEADLINE) -> int:
    return handle.write_file(data, timeout)


def would_wait(call: Callable[[], object]) -> bool:
    """Whether a call with a time-out of 0 raised 121."""
    return code_of(call) == 121


class Background(Generic[T]):
    """A call in a thread of its own."""

    def __init__(self, call: Callable[[], T]) -> None:
        self._outcome: list[T] = []
        self._error: BaseException | None = None
        self._call = call
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._outcome.append(self._call())
        except BaseException as error:
            self._error = error

    @property
    def running(self) -> bool:
        return self._thread.is_alive()

    def blocked(self) -> Background[T]:
        """Returns when the call sleeps in the engine; fails when it returns instead.

        A call that dials sleeps a first time until an owner has answered: for those there is held().
        """
        until = time.monotonic() + DEADLINE
        while not sleeps(self._thread):
            assert self.running, f"it did not block: {self._outcome or self._error!r}"
            assert time.monotonic() < until, "it neither blocks nor returns"
            time.sleep(0.0005)  # nothing observable says that a thread has gone to sleep
        return self

    def result(self, deadline: float = DEADLINE) -> T:
        """What the call returned or raised; fails when it is not over in time."""
        self._thread.join(deadline)
        assert not self._thread.is_alive(), f"still blocked after {deadline} s"
        if self._error is not None:
            raise self._error
        return self._outcome[0]

    def code(self, deadline: float = DEADLINE) -> int:
        """The Win32 code of the call, 0 for success."""
        return code_of(lambda: self.result(deadline))


def sleeps(thread: threading.Thread) -> bool:
    """Whether a thread sleeps in a call."""
    if sys.platform == "win32":
        return _waits_on_windows(thread)
    return thread.native_id is not None and asleep(os.getpid(), thread.native_id)


def _waits_on_windows(thread: threading.Thread) -> bool:
    """Whether the thread is in a function that waits, which is after its operation was started.

    In a call of pywin32's there is nothing to see but that it stays there.
    """
    seen = set()
    for _ in range(_SAMPLES):
        frame = innermost = sys._current_frames().get(thread.ident or 0)
        while frame is not None and (
            Path(frame.f_code.co_filename).parent.name != "native" or frame.f_code.co_name == "_take_turn"
        ):
            frame = frame.f_back
        if frame is not None and frame.f_code.co_name in ("wait_for_any", "wait_named_pipe", "_begin_read"):
            return True
        if frame is not None or innermost is None:
            return False
        seen.add((innermost.f_code, innermost.f_lasti))
        time.sleep(0.001)
    return len(seen) == 1


def started(call: Callable[..., T], *arguments: object) -> Background[T]:
    """Starts a call that may or may not block."""
    return Background(lambda: call(*arguments))


def in_four_threads(work: Callable[[], None]) -> None:
    """Call `work` in four threads that take turns as often as can be; raise what it raises."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        calls = [started(work) for _ in range(4)]
        for call in calls:
            call.result(DEADLINE)
    finally:
        sys.setswitchinterval(before)


def blocked_in(call: Callable[..., T], *arguments: object) -> Background[T]:
    """The same as blocked(), for a call with arguments of its own."""
    return Background(lambda: call(*arguments)).blocked()


def blocked(call: Callable[[], T]) -> Background[T]:
    """Starts a call that must block, and returns when it does."""
    return Background(call).blocked()


def held(name: str, call: Callable[[], T], owner: int | None = None) -> Background[T]:
    """Starts a call that must wait for an instance, and returns when an owner holds its request and it sleeps for that.

    With the owner's process id: when that one holds it.
    """
    if sys.platform == "win32":  # nobody holds requests there: WaitNamedPipe waits in the kernel
        return Background(call).blocked()
    before = requests_held(name, owner)
    background = Background(call)
    until(lambda: requests_held(name, owner) > before or not background.running)
    settle(name)
    return background.blocked()


def until_held(name: str, pid: int, count: int = 1) -> None:
    """Returns when the owners of a pipe hold `count` requests and the main thread of `pid`, who made one, sleeps."""
    until(lambda: requests_held(name) == count, 4 * DEADLINE)
    settle(name)
    until(lambda: asleep(pid))


def requests_held(name: str, owner: int | None = None) -> int:
    """How many opens and waits the owners of a pipe (or that process alone) hold: docs/protocol.md, section 2."""
    places = rendezvous.places_of(name)
    return sum(place.waiters for place in places if place.number and owner in (None, place.pid))


def settle(name: str) -> None:
    """Returns when the owners of a pipe have said what they had to say: each counts a request before it answers it."""
    if sys.platform == "win32":
        pytest.fail("the engine's protocol")
    for path in rendezvous.sockets_of(name):
        try:
            query = rendezvous.dial(path, DEADLINE)
        except (ConnectionRefusedError, FileNotFoundError):
            continue  # it has gone
        with query:
            query.send(rendezvous.request(rendezvous.QUERY, access=0))
            query.recv(4096)


def is_stopped(pid: int) -> bool:
    """Whether SIGSTOP has reached all its threads: the first one has to run to hand it on."""
    threads = Path(f"/proc/{pid}/task").glob("*/stat")
    return all(thread.read_text().rpartition(")")[2].split()[0] == "T" for thread in threads)


def stop(pid: int) -> None:
    """SIGSTOP, and return when it has stopped: until then it goes on, on another processor."""
    if sys.platform == "win32":
        raise NotImplementedError
    os.kill(pid, signal.SIGSTOP)
    until(lambda: is_stopped(pid))


def asleep(pid: int, thread: int | None = None) -> bool:
    """Whether a thread (if not given, the main one) sleeps in the engine, not in the interpreter's or libc's locks."""
    try:
        call = Path(f"/proc/{pid}/task/{thread or pid}/syscall").read_text().split()
    except ProcessLookupError:
        return False
    except FileNotFoundError:
        if thread is None:
            raise
        return False  # one that has just ended
    if not call or call[0] == "running":
        return False
    number = int(call[0])
    return number in _POLL + _RECV or (number in _FUTEX and int(call[2], 16) == _WAIT_BITSET)


def descriptors(pid: int | None = None) -> int:
    """How many descriptors, or on Windows handles, a process has open; by default this one."""
    if sys.platform == "win32":
        import ctypes

        count = ctypes.c_uint32()
        assert pid is None
        assert ctypes.windll.kernel32.GetProcessHandleCount(ctypes.c_void_p(-1), ctypes.byref(count))
        return count.value
    return len(list(Path(f"/proc/{pid or os.getpid()}/fd").iterdir()))


def watches(pid: int | None = None) -> int:
    """How many instances of inotify a process (by default this one) has: one, while it waits for servers to come."""
    found = 0
    for link in Path(f"/proc/{pid or os.getpid()}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            found += "inotify" in str(link.readlink())
    return found


@contextlib.contextmanager
def shared_folder() -> Iterator[Path]:
    """A folder as an administrator makes it for pipes of all users, to which everybody can come."""
    with tempfile.TemporaryDirectory(prefix="npipe-test-") as above:
        Path(above).chmod(0o755)
        folder = Path(above) / "root"
        folder.mkdir()
        folder.chmod(0o1777)
        yield folder


def until(condition: Callable[[], bool], deadline: float = DEADLINE) -> None:
    """Waits for what the native thread does on its own; fails when it does not come."""
    end = time.monotonic() + deadline
    while not condition():
        assert time.monotonic() < end, "the condition did not come true"
        time.sleep(0.0005)


class NotedLock:
    """A lock that tells when somebody waits for it."""

    def __init__(self) -> None:
        self.wanted = threading.Event()
        self._lock = threading.Lock()
        self.locked = self._lock.locked

    def __enter__(self) -> None:
        if self._lock.locked():
            self.wanted.set()
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()


class HeldTransport:
    """This machine's transport; a creation of another instance returns when it is let go, though clients find it."""

    def __init__(self) -> None:
        self.created, self.go = threading.Event(), threading.Event()

    def __getattr__(self, attribute: str) -> Any:
        return getattr(default(), attribute)

    def create(self, *arguments: Any, first_instance: bool, **options: Any) -> Any:
        made = default().create(*arguments, first_instance=first_instance, **options)
        if not first_instance:
            self.created.set()
            assert self.go.wait(DEADLINE)
        return made


def readable(stream: Any, timeout: float) -> bool:
    """Whether a file can be read within so many seconds, whatever its descriptor's number is."""
    with selectors.DefaultSelector() as selector:
        selector.register(stream, selectors.EVENT_READ)
        return bool(selector.select(timeout))
