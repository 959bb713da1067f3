"""npipe.win32.completion on Windows: kernel32's functions for pywin32's objects."""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING, Any

import pytest

from npipe.win32 import completion, pywintypes, win32api, win32event, win32file, win32pipe

if TYPE_CHECKING:
    from collections.abc import Iterator

DEADLINE_MS = 5000


@pytest.fixture
def ends(name: str) -> Iterator[tuple[Any, Any]]:
    """A server's and a client's overlapped handles, in message-read mode."""
    server = win32pipe.CreateNamedPipe(name, 3 | win32file.FILE_FLAG_OVERLAPPED, 6, 1, 4096, 4096, 0, None)
    access = win32file.GENERIC_READ | win32file.GENERIC_WRITE
    flags = win32file.FILE_FLAG_OVERLAPPED
    client = win32file.CreateFile(name, access, 0, None, win32file.OPEN_EXISTING, flags, None)
    win32pipe.SetNamedPipeHandleState(client, 2, None, None)
    yield server, client
    for handle in (server, client):
        handle.Close()
    completion.SleepEx(0, True)


class Routine:
    """A completion routine that keeps what it was called with."""

    def __init__(self) -> None:
        self.calls: list[tuple[int, int, Any, int]] = []

    def __call__(self, code: int, count: int, overlapped: Any) -> None:
        self.calls.append((code, count, overlapped, threading.get_ident()))


def test_a_read_that_pends_calls_its_routine_in_an_alertable_wait(ends: tuple[Any, Any]) -> None:
    server, client = ends
    routine, overlapped, buffer = Routine(), pywintypes.OVERLAPPED(), bytearray(10)
    overlapped.object = "mine"
    assert completion.ReadFileEx(server, buffer, overlapped, routine) == 0
    win32file.WriteFile(client, b"hello", pywintypes.OVERLAPPED())
    assert completion.SleepEx(0, False) == 0
    assert routine.calls == []
    assert completion.SleepEx(DEADLINE_MS, True) == 192
    assert routine.calls == [(0, 5, overlapped, threading.get_ident())]
    assert routine.calls[0][2].object == "mine"
    assert buffer[:5] == b"hello"
    buffer.clear()  # it is not pinned any more


def test_the_buffer_of_a_pending_read_is_pinned(ends: tuple[Any, Any]) -> None:
    server, client = ends
    routine, buffer = Routine(), bytearray(10)
    completion.ReadFileEx(server, buffer, pywintypes.OVERLAPPED(), routine)
    with pytest.raises(BufferError):
        buffer.clear()
    win32file.WriteFile(client, b"x", pywintypes.OVERLAPPED())
    assert completion.SleepEx(DEADLINE_MS, True) == 192
    buffer.clear()


def test_what_nobody_else_holds_lives_until_the_routine(ends: tuple[Any, Any]) -> None:
    import gc

    server, client = ends
    done: list[bytes] = []

    def start() -> None:
        buffer = bytearray(10)
        completion.ReadFileEx(
            server, buffer, pywintypes.OVERLAPPED(), lambda _code, count, _ov: done.append(bytes(buffer[:count]))
        )

    start()
    gc.collect()
    completion.WriteFileEx(client, bytearray(b"kept"), pywintypes.OVERLAPPED(), lambda *_: None)
    gc.collect()
    while not done:
        assert completion.SleepEx(DEADLINE_MS, True) == 192
    assert done == [b"kept"]


def test_a_part_of_a_message_is_234(ends: tuple[Any, Any]) -> None:
    server, client = ends
    win32file.WriteFile(client, b"hello", pywintypes.OVERLAPPED())
    routine, buffer = Routine(), bytearray(2)
    assert completion.ReadFileEx(server, buffer, pywintypes.OVERLAPPED(), routine) == 234
    assert completion.SleepEx(DEADLINE_MS, True) == 192
    assert [call[:2] for call in routine.calls] == [(234, 2)]


def test_a_read_that_fails_at_once_calls_nothing(ends: tuple[Any, Any]) -> None:
    server, client = ends
    client.Close()
    routine = Routine()
    with pytest.raises(pywintypes.error) as caught:
        completion.ReadFileEx(server, bytearray(2), pywintypes.OVERLAPPED(), routine)
    assert (caught.value.winerror, caught.value.funcname) == (109, "ReadFileEx")
    assert completion.SleepEx(0, True) == 0
    assert routine.calls == []


def test_an_overlapped_in_use_is_refused(ends: tuple[Any, Any]) -> None:
    server, _ = ends
    routine, overlapped = Routine(), pywintypes.OVERLAPPED()
    completion.ReadFileEx(server, bytearray(2), overlapped, routine)
    with pytest.raises(pywintypes.error) as caught:
        completion.ReadFileEx(server, bytearray(2), overlapped, routine)
    assert caught.value.winerror == 87
    completion.CancelIoEx(server, overlapped)
    assert completion.SleepEx(DEADLINE_MS, True) == 192
    assert [call[:2] for call in routine.calls] == [(995, 0)]


def test_wrong_arguments_are_type_errors(ends: tuple[Any, Any]) -> None:
    server, _ = ends
    nothing: Any = None
    with pytest.raises(TypeError):
        completion.ReadFileEx(server, bytearray(2), pywintypes.OVERLAPPED(), nothing)
    with pytest.raises(TypeError):
        completion.ReadFileEx(server, bytearray(2), nothing, Routine())
    with pytest.raises(TypeError):
        completion.ReadFileEx(server, b"read-only", pywintypes.OVERLAPPED(), Routine())
    with pytest.raises(TypeError):
        completion.WriteFileEx(server, nothing, pywintypes.OVERLAPPED(), Routine())


def test_results_with_a_time_out(ends: tuple[Any, Any]) -> None:
    server, client = ends
    overlapped = pywintypes.OVERLAPPED()
    overlapped.hEvent = win32event.CreateEvent(None, True, False, None)
    code, _ = win32file.ReadFile(server, win32file.AllocateReadBuffer(10), overlapped)
    assert code == 997
    assert not completion.HasOverlappedIoCompleted(overlapped)
    for milliseconds, expected in ((0, 996), (10, 258)):
        with pytest.raises(pywintypes.error) as caught:
            completion.GetOverlappedResultEx(server, overlapped, milliseconds, False)
        assert caught.value.winerror == expected
    win32file.WriteFile(client, b"abc", pywintypes.OVERLAPPED())
    assert completion.GetOverlappedResultEx(server, overlapped, DEADLINE_MS, False) == 3
    assert completion.HasOverlappedIoCompleted(overlapped)


def test_a_queued_call_ends_an_alertable_wait() -> None:
    called: list[tuple[int, int]] = []
    thread = completion.OpenThread(win32api.GetCurrentThreadId())
    completion.QueueUserAPC(lambda data: called.append((data, threading.get_ident())), thread, 42)
    assert completion.SleepEx(DEADLINE_MS, True) == 192
    assert called == [(42, threading.get_ident())]


def test_a_blocked_call_is_cancelled(name: str) -> None:
    server = win32pipe.CreateNamedPipe(name, 3, 6, 1, 4096, 4096, 0, None)
    codes: list[int] = []

    def wait() -> None:
        try:
            win32pipe.ConnectNamedPipe(server, None)
            codes.append(0)
        except pywintypes.error as error:
            codes.append(error.winerror)

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    handle = completion.OpenThread(thread)
    for _ in range(1000):  # it may be on its way into the call
        with contextlib.suppress(pywintypes.error):
            completion.CancelSynchronousIo(handle)
        if win32event.WaitForSingleObject(handle, 5) == win32event.WAIT_OBJECT_0:
            break
    thread.join(5)
    assert codes == [995]
    server.Close()


def test_what_a_routine_raises_comes_out_of_the_wait(ends: tuple[Any, Any]) -> None:
    server, client = ends

    def fail(*_: object) -> None:
        raise LookupError("from the routine")

    completion.ReadFileEx(server, bytearray(1), pywintypes.OVERLAPPED(), fail)
    win32file.WriteFile(client, b"x", pywintypes.OVERLAPPED())
    with pytest.raises(LookupError, match="from the routine"):
        completion.SleepEx(DEADLINE_MS, True)
    assert completion.SleepEx(0, True) == 0


def test_what_a_routine_raises_in_a_wait_of_pywin32s_is_reported(
    ends: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    server, client = ends
    reported: list[Any] = []
    monkeypatch.setattr("sys.unraisablehook", reported.append)

    def fail(*_: object) -> None:
        raise LookupError("from the routine")

    completion.ReadFileEx(server, bytearray(1), pywintypes.OVERLAPPED(), fail)
    win32file.WriteFile(client, b"x", pywintypes.OVERLAPPED())
    event = win32event.CreateEvent(None, True, False, None)
    assert win32event.WaitForSingleObjectEx(event, DEADLINE_MS, True) == 192
    assert [type(each.exc_value) for each in reported] == [LookupError]
