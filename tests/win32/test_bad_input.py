"""What programs do wrong with npipe.win32: handles, buffers, OVERLAPPED reused or dropped; exits, forks, Ctrl-C."""

from __future__ import annotations

import array
import gc
import os
import signal
import subprocess
import sys
import textwrap
import weakref
from typing import TYPE_CHECKING, Any

import pytest

from npipe.win32 import completion, win32api, win32event, win32file, win32pipe, win32security
from tests import helpers as h
from tests.win32 import helpers as w

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.conftest import Child

    Start = Callable[..., Child]

Ov = win32file.OVERLAPPED
CALLS: dict[str, Callable[[Any], object]] = {
    "ReadFile": lambda end: win32file.ReadFile(end, 5),
    "ReadFile overlapped": lambda end: win32file.ReadFile(end, 5, Ov()),
    "WriteFile": lambda end: win32file.WriteFile(end, b"x"),
    "WriteFile overlapped": lambda end: win32file.WriteFile(end, b"x", Ov()),
    "ReadFileEx": lambda end: completion.ReadFileEx(end, bytearray(5), Ov(), w.Routine()),
    "WriteFileEx": lambda end: completion.WriteFileEx(end, b"x", Ov(), w.Routine()),
    "FlushFileBuffers": win32file.FlushFileBuffers,
    "CancelIo": win32file.CancelIo,
    "CancelIoEx": completion.CancelIoEx,
    "ConnectNamedPipe": lambda end: win32pipe.ConnectNamedPipe(end, None),
    "ConnectNamedPipe overlapped": lambda end: win32pipe.ConnectNamedPipe(end, Ov()),
    "DisconnectNamedPipe": win32pipe.DisconnectNamedPipe,
    "PeekNamedPipe": lambda end: win32pipe.PeekNamedPipe(end, 5),
    "TransactNamedPipe": lambda end: win32pipe.TransactNamedPipe(end, b"x", 5, None),
    "TransactNamedPipe overlapped": lambda end: win32pipe.TransactNamedPipe(end, b"x", bytearray(5), Ov()),
    "SetNamedPipeHandleState": lambda end: win32pipe.SetNamedPipeHandleState(end, 0, None, None),
    "GetNamedPipeHandleState": win32pipe.GetNamedPipeHandleState,
    "GetNamedPipeInfo": win32pipe.GetNamedPipeInfo,
    "GetNamedPipeClientProcessId": win32pipe.GetNamedPipeClientProcessId,
    "GetNamedPipeServerProcessId": win32pipe.GetNamedPipeServerProcessId,
    "ImpersonateNamedPipeClient": win32security.ImpersonateNamedPipeClient,
}


# --- Handles


@pytest.mark.parametrize("call", CALLS)
def test_an_event_or_a_port_where_a_pipe_is_expected_is_6(call: str) -> None:
    for handle in (w.event(), w.port_for(), win32event.CreateMutex(None, False, None)):
        assert w.code_of(CALLS[call], handle) == 6


@pytest.mark.parametrize("call", CALLS)
def test_a_closed_handle_and_a_number_that_is_none_are_6(name: str, call: str) -> None:
    end = w.create(name)
    number = int(end)
    end.Close()
    for handle in (end, number, 0, -1, 0x7FFFFFF4):
        assert w.code_of(CALLS[call], handle) == 6, handle


@pytest.mark.parametrize("call", CALLS)
def test_what_is_no_handle_is_a_type_error(call: str) -> None:
    for value in ("no", b"", object(), 1 << 64, -1 << 64):
        with pytest.raises(TypeError, match="The object is not a PyHANDLE object"):
            CALLS[call](value)


def test_the_file_type_of_what_is_no_file_is_unknown(name: str) -> None:
    server = w.create(name)
    assert win32file.GetFileType(server) == win32file.FILE_TYPE_PIPE
    server.Close()
    for handle in (server, w.event(), w.port_for(), 0x7FFFFFF4):
        assert win32file.GetFileType(handle) == win32file.FILE_TYPE_UNKNOWN


def test_closing_twice_is_6_by_number_and_nothing_by_the_object(name: str) -> None:
    end = w.create(name)
    number = int(end)
    win32file.CloseHandle(end)
    end.Close()
    win32api.CloseHandle(end)
    assert w.code_of(win32file.CloseHandle, number) == 6
    assert w.code_of(win32api.CloseHandle, number) == 6


def test_closing_no_handle_and_oneself_is_no_error() -> None:
    handles: list[Any] = [None, 0, win32file.INVALID_HANDLE_VALUE, win32api.GetCurrentThread()]
    for handle in handles:
        win32file.CloseHandle(handle)


def test_what_is_started_on_a_closed_handle_is_pending_in_its_overlapped_and_leaves_the_event(name: str) -> None:
    server = w.create(name)
    server.Close()
    starts: list[Callable[[Any], object]] = [
        lambda overlapped: win32file.ReadFile(server, 5, overlapped),
        lambda overlapped: win32file.WriteFile(server, b"x", overlapped),
        lambda overlapped: win32pipe.ConnectNamedPipe(server, overlapped),
        lambda overlapped: win32pipe.TransactNamedPipe(server, b"x", 5, overlapped),
    ]
    for start in starts:
        overlapped = w.with_event()
        win32event.SetEvent(overlapped.hEvent)
        assert w.code_of(start, overlapped) == 6
        assert overlapped.Internal == 0x103
        assert w.code_of(win32file.GetOverlappedResult, server, overlapped, False) == 996
        assert w.signalled(overlapped.hEvent)


def test_what_is_started_without_the_right_to_it_leaves_the_event(name: str) -> None:
    server = w.create(name, direction=win32pipe.PIPE_ACCESS_OUTBOUND)
    overlapped = w.with_event()
    win32event.SetEvent(overlapped.hEvent)
    assert w.code_of(win32file.ReadFile, server, 5, overlapped) == 5
    assert w.signalled(overlapped.hEvent)
    assert w.signalled(server)
    assert w.code_of(win32file.GetOverlappedResult, server, overlapped, False) == 996


def test_text_is_not_written(name: str) -> None:
    server, client = w.connected(name)
    for call in (
        lambda: win32file.WriteFile(client, "text"),  # type: ignore[arg-type]
        lambda: win32file.WriteFile(client, "text", Ov()),  # type: ignore[arg-type]
        lambda: win32pipe.TransactNamedPipe(client, "text", 5, Ov()),  # type: ignore[call-overload]
        lambda: win32pipe.CallNamedPipe(name, "text", 5, 0),  # type: ignore[arg-type]
    ):
        with pytest.raises(TypeError, match="a bytes-like object is required, not 'str'"):
            call()
    assert win32pipe.PeekNamedPipe(server, 5) == (b"", 0, 0)


def test_numbers_that_are_none_or_have_no_room_in_32_bits_are_refused(name: str) -> None:
    for wrong in ("1", 1.5, None):
        with pytest.raises(TypeError):
            win32pipe.CreateNamedPipe(name, 3, 0, 1, wrong, 0, 0, None)  # type: ignore[arg-type]
        with pytest.raises(TypeError):
            win32event.WaitForSingleObject(w.event(), wrong)  # type: ignore[arg-type]
        with pytest.raises(TypeError):
            win32event.CreateEvent(None, wrong, False, None)  # type: ignore[arg-type]
    with pytest.raises(OverflowError):
        win32pipe.CreateNamedPipe(name, 3, 0, 1, 1 << 32, 0, 0, None)


def test_a_closed_or_wrong_event_in_an_overlapped_is_6_and_starts_nothing(name: str) -> None:
    server, client = w.connected(name)
    closed = w.event()
    number = int(closed)
    closed.Close()
    for event in (number, server, 0x7FFFFFF4):
        overlapped = Ov()
        overlapped.hEvent = event
        assert w.code_of(win32file.ReadFile, server, 5, overlapped) == 6
        assert w.code_of(win32file.WriteFile, server, b"x", overlapped) == 6
    assert win32pipe.PeekNamedPipe(client, 5) == (b"", 0, 0)
    assert w.code_of(completion.CancelIoEx, server, None) == 1168


def test_an_event_that_is_closed_while_its_operation_is_pending_does_no_harm(name: str) -> None:
    server, client = w.connected(name)
    overlapped, buffer = w.read(server)
    overlapped.hEvent.Close()
    win32file.WriteFile(client, b"abc")
    assert win32file.GetOverlappedResult(server, overlapped, False) == 3
    assert bytes(buffer[:3]) == b"abc"


# --- Buffers


@pytest.mark.parametrize("buffer", [b"bytes", "text", memoryview(b"read only"), 1.5, object(), [1, 2]])
def test_a_buffer_that_cannot_be_written_is_refused_and_starts_nothing(name: str, buffer: object) -> None:
    server, client = w.connected(name, mode=w.MESSAGE)
    win32file.WriteFile(client, b"kept")
    starts: list[Callable[[], object]] = [
        lambda: win32file.ReadFile(server, buffer, Ov()),  # type: ignore[call-overload]
        lambda: win32file.ReadFile(server, buffer),  # type: ignore[call-overload]
        lambda: completion.ReadFileEx(server, buffer, Ov(), w.Routine()),  # type: ignore[arg-type]
        lambda: win32pipe.TransactNamedPipe(server, b"x", buffer, Ov()),  # type: ignore[call-overload]
    ]
    for start in starts:
        with pytest.raises((TypeError, BufferError, ValueError)):
            start()
    assert win32file.ReadFile(server, 9) == (0, b"kept")
    assert win32pipe.PeekNamedPipe(client, 9) == (b"", 0, 0)
    assert completion.SleepEx(0, True) == 0
    assert w.code_of(completion.CancelIoEx, server, None) == 1168


@pytest.mark.parametrize("data", [1, 1.5, None, object(), [1, 2]])
def test_data_that_is_no_buffer_is_refused(name: str, data: object) -> None:
    server, client = w.connected(name)
    for start in (
        lambda: win32file.WriteFile(server, data),  # type: ignore[arg-type]
        lambda: win32file.WriteFile(server, data, Ov()),  # type: ignore[arg-type]
        lambda: completion.WriteFileEx(server, data, Ov(), w.Routine()),  # type: ignore[arg-type]
    ):
        with pytest.raises((TypeError, BufferError)):
            start()
    assert win32pipe.PeekNamedPipe(client, 9) == (b"", 0, 0)


def test_negative_and_enormous_sizes_are_refused(name: str) -> None:
    server, _client = w.connected(name)
    for size in (-1, 1 << 40):
        with pytest.raises(TypeError, match="an integer or writeable buffer"):
            win32file.ReadFile(server, size)
        with pytest.raises((OverflowError, MemoryError)):
            win32pipe.PeekNamedPipe(server, size)


def test_buffers_of_other_items_are_counted_in_bytes(name: str) -> None:
    server, client = w.connected(name)
    buffer = array.array("I", [0, 0])
    overlapped = Ov()
    win32file.ReadFile(server, buffer, overlapped)
    win32file.WriteFile(client, array.array("H", [1, 2, 3]))
    assert w.result(server, overlapped) == (0, 6)
    assert buffer.tobytes()[:6] == array.array("H", [1, 2, 3]).tobytes()


def test_a_buffer_is_pinned_while_the_operation_is_pending_and_free_after_it(name: str) -> None:
    server, client = w.connected(name, quota=0)
    incoming, outgoing = bytearray(8), bytearray(b"outgoing")
    reading, writing = w.with_event(), w.with_event()
    win32file.ReadFile(server, incoming, reading)
    assert win32file.WriteFile(server, outgoing, writing)[0] == w.PENDING
    for pinned in (incoming, outgoing):
        with pytest.raises(BufferError):
            pinned.extend(b"more")
        with pytest.raises(BufferError):
            pinned.clear()
    win32file.WriteFile(client, b"incoming")
    assert win32file.ReadFile(client, 20) == (0, b"outgoing")
    assert w.result(server, reading) == (0, 8)
    assert w.result(server, writing) == (0, 8)
    incoming.extend(b"more")
    outgoing.clear()


@pytest.mark.parametrize("end", ["cancel", "close", "disconnect"])
def test_a_buffer_is_free_after_a_cancel_a_close_and_a_disconnect(name: str, end: str) -> None:
    server, _client = w.connected(name)
    buffer, overlapped = bytearray(8), w.with_event()
    win32file.ReadFile(server, buffer, overlapped)
    {
        "cancel": lambda: completion.CancelIoEx(server, overlapped),
        "close": server.Close,
        "disconnect": lambda: win32pipe.DisconnectNamedPipe(server),
    }[end]()
    assert w.signalled(overlapped.hEvent)
    buffer.extend(b"more")


def test_a_memoryview_cannot_be_released_while_it_is_pinned(name: str) -> None:
    server, client = w.connected(name)
    buffer = win32file.AllocateReadBuffer(8)
    overlapped = Ov()
    win32file.ReadFile(server, buffer, overlapped)
    with pytest.raises(BufferError):
        buffer.release()
    win32file.WriteFile(client, b"x")
    assert w.result(server, overlapped) == (0, 1)
    buffer.release()


def test_a_buffer_that_is_dropped_while_pending_is_written_to_and_then_freed(name: str) -> None:
    server, client = w.connected(name)

    class Buffer(bytearray):
        pass

    buffer = Buffer(8)
    gone = weakref.ref(buffer)
    overlapped = w.with_event()
    win32file.ReadFile(server, buffer, overlapped)
    del buffer
    gc.collect()
    assert gone() is not None
    win32file.WriteFile(client, b"x")
    assert w.result(server, overlapped) == (0, 1)
    win32api.SleepEx(0, False)  # any call lets go of what is over
    gc.collect()
    assert gone() is None


# --- OVERLAPPED and handles


def test_an_overlapped_that_is_used_again_while_pending_completes_both(name: str) -> None:
    server, client = w.connected(name)
    overlapped = w.with_event()
    first, second = bytearray(3), bytearray(3)
    win32file.ReadFile(server, first, overlapped)
    win32file.ReadFile(server, second, overlapped)
    win32file.WriteFile(client, b"abcdef")
    assert w.result(server, overlapped) == (0, 3)
    assert (bytes(first), bytes(second)) == (b"abc", b"def")
    first.clear()
    second.clear()
    win32file.ReadFile(server, first, overlapped)
    win32file.ReadFile(server, bytearray(1), overlapped)
    completion.CancelIoEx(server, overlapped)
    assert w.code_of(completion.CancelIoEx, server, None) == 1168
    assert w.result(server, overlapped) == (995, 0)


def test_an_overlapped_that_is_pending_on_two_ends(name: str) -> None:
    server, client = w.connected(name)
    overlapped = w.with_event()
    win32file.ReadFile(server, 5, overlapped)
    win32file.ReadFile(client, 5, overlapped)
    completion.CancelIoEx(server, overlapped)
    assert w.code_of(completion.CancelIoEx, server, overlapped) == 1168
    win32file.WriteFile(server, b"x")
    assert w.result(client, overlapped) == (0, 1)


def test_overlapped_and_handles_that_are_dropped_while_pending(name: str) -> None:
    server, client = w.connected(name, quota=0)
    for _ in range(20):
        win32file.ReadFile(server, 5, Ov())
        win32file.WriteFile(server, b"abc", w.with_event())
        completion.ReadFileEx(client, bytearray(2), Ov(), w.Routine())
    gc.collect()
    del server
    gc.collect()
    assert w.code_of(win32file.ReadFile, client, 9) in (0, 109)
    del client
    gc.collect()
    completion.SleepEx(0, True)
    assert w.code_of(w.open_client, name) == 2


@pytest.mark.parametrize("overlapped", [1, "no", object(), b""])
def test_what_is_no_overlapped_is_a_type_error(name: str, overlapped: object) -> None:
    server, client = w.connected(name)
    for start in (
        lambda: win32file.ReadFile(server, 5, overlapped),  # type: ignore[call-overload]
        lambda: win32file.WriteFile(server, b"x", overlapped),  # type: ignore[arg-type]
        lambda: win32pipe.ConnectNamedPipe(server, overlapped),  # type: ignore[arg-type]
        lambda: win32file.GetOverlappedResult(server, overlapped, False),  # type: ignore[arg-type]
        lambda: completion.CancelIoEx(server, overlapped),  # type: ignore[arg-type]
    ):
        with pytest.raises(TypeError, match="OVERLAPPED"):
            start()
    with pytest.raises(TypeError, match="The object is not a PyOVERLAPPED object"):
        win32file.GetOverlappedResult(server, None, False)  # type: ignore[arg-type]
    assert win32pipe.PeekNamedPipe(client, 5) == (b"", 0, 0)


def test_an_overlapped_that_two_operations_share_shows_what_happened_last(name: str) -> None:
    server, client = w.connected(name, quota=1)
    shared = w.with_event()
    win32file.ReadFile(server, bytearray(2), shared)
    assert win32file.WriteFile(client, b"more than fits", shared)[0] == w.PENDING  # which ends the read
    assert (shared.Internal, shared.InternalHigh) == (0, 2)
    assert w.result(server, shared) == (0, 2)
    assert win32file.ReadFile(server, 20) == (0, b"re than fits")
    assert w.result(client, shared) == (0, 14)


# --- Exits, forks, Ctrl-C

PENDING = """
    import sys, threading
    from npipe.win32 import completion, win32event, win32file, win32pipe
    name = sys.argv[1]
    server = win32pipe.CreateNamedPipe(name, 3 | 0x40000000, 0, 255, 0, 0, 0, None)
    listening = win32pipe.CreateNamedPipe(name, 3 | 0x40000000, 0, 255, 0, 0, 0, None)
    client = win32file.CreateFile(name, 0xC0000000, 0, None, 3, 0x40000000, None)
    port = win32file.CreateIoCompletionPort(listening, None, 1, 0)
    kept = []
    def begin(start):
        overlapped = win32file.OVERLAPPED()
        overlapped.hEvent = win32event.CreateEvent(None, 1, 0, None)
        kept.append(overlapped)
        start(overlapped)
    def begin_all():
        begin(lambda o: win32file.ReadFile(server, 5, o))
        begin(lambda o: win32file.WriteFile(server, b"x", o))
        begin(lambda o: completion.ReadFileEx(client, bytearray(5), o, print))
        begin(lambda o: win32pipe.ConnectNamedPipe(listening, o))
    begin_all()
"""


@pytest.mark.parametrize(
    "last",
    [
        "",
        "import os; os.register_at_fork(before=print)",
        "del kept, server, client",
        "threading.Thread(target=win32file.ReadFile, args=(server, 5), daemon=True).start()",
        "threading.Thread(target=win32file.GetQueuedCompletionStatus, args=(port, -1), daemon=True).start()",
        "threading.Thread(target=win32event.WaitForSingleObject, args=(kept[0].hEvent, -1), daemon=True).start()",
        "thread = threading.Thread(target=begin_all); thread.start(); thread.join()",
        "raise SystemExit(0)",
    ],
)
def test_the_interpreter_ends_quietly_with_operations_pending(name: str, last: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-X", "dev", "-c", textwrap.dedent(PENDING) + last, name],
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert (ended.returncode, ended.stderr) == (0, "")


def test_a_fork_with_operations_pending_leaves_them_to_the_parent(name: str) -> None:
    server, client = w.connected(name)
    overlapped, buffer = w.read(server)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            codes = [
                w.code_of(win32file.ReadFile, server, 5, Ov()),
                w.code_of(win32file.WriteFile, client, b"from the child"),
                w.code_of(win32file.GetOverlappedResult, server, overlapped, False),
            ]
            event = w.event(initial=True)
            code = 0 if all(codes[:2]) and w.signalled(event) else 2
            del server, client
            gc.collect()
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert w.pending(server, overlapped)
    win32file.WriteFile(client, b"parent")
    assert w.result(server, overlapped) == (0, 6)
    assert bytes(buffer[:6]) == b"parent"


BLOCKING = {
    "ReadFile": "win32file.ReadFile(server, 5)",
    "WriteFile": "win32file.WriteFile(server, b'x' * 100)",
    "FlushFileBuffers": "win32file.FlushFileBuffers(server)",
    "TransactNamedPipe": "win32pipe.TransactNamedPipe(client, b'x', 5, None)",
    "ConnectNamedPipe": "win32pipe.ConnectNamedPipe(listening, None)",
    "synchronous read with an OVERLAPPED": "win32file.ReadFile(sync, 5, overlapped)",
    "WaitNamedPipe": "win32pipe.WaitNamedPipe(name, -1)",
    "GetOverlappedResult": "win32file.GetOverlappedResult(server, pended, True)",
    "WaitForSingleObject": "win32event.WaitForSingleObject(event, -1)",
    "WaitForSingleObject of an operation": "win32event.WaitForSingleObject(pended.hEvent, -1)",
    "WaitForMultipleObjects": "win32event.WaitForMultipleObjects([event, pended.hEvent], False, -1)",
    "SleepEx": "completion.SleepEx(-1, True)",
    "Sleep": "win32api.Sleep(100000)",
    "GetQueuedCompletionStatus": "win32file.GetQueuedCompletionStatus(port, -1)",
    "waitable timer": "win32event.WaitForSingleObject(timer, -1)",
    "mutex": "win32event.WaitForSingleObject(mutex, -1)",
}


@pytest.mark.parametrize("call", BLOCKING)
def test_ctrl_c_ends_each_blocking_call(name: str, child: Start, call: str) -> None:
    victim = child(
        f"""
        import signal, sys, threading
        from npipe.win32 import completion, win32api, win32event, win32file, win32pipe
        signal.signal(signal.SIGINT, signal.default_int_handler)
        name = sys.argv[1]
        server = win32pipe.CreateNamedPipe(name, 3 | 0x40000000, 4, 255, 4, 4, 0, None)
        client = win32file.CreateFile(name, 0xC0000000, 0, None, 3, 0x40000000, None)
        win32pipe.SetNamedPipeHandleState(client, 2, None, None)
        other = win32pipe.CreateNamedPipe(name + "-other", 3 | 0x40000000, 0, 255, 4, 4, 0, None)
        sync = win32file.CreateFile(name + "-other", 0xC0000000, 0, None, 3, 0, None)
        event = win32event.CreateEvent(None, 1, 0, None)
        timer = win32event.CreateWaitableTimer(None, 1, None)
        win32event.SetWaitableTimer(timer, -1000000000, 0, None, None, False)
        mutex = win32event.CreateMutex(None, False, None)
        owned, for_ever = threading.Event(), threading.Event()
        def own():
            assert win32event.WaitForSingleObject(mutex, 0) == 0
            owned.set()
            for_ever.wait()
        threading.Thread(target=own, daemon=True).start()
        assert owned.wait(20)
        port = win32file.CreateIoCompletionPort(-1, None, 0, 1)
        overlapped, pended = win32file.OVERLAPPED(), win32file.OVERLAPPED()
        pended.hEvent = win32event.CreateEvent(None, 1, 0, None)
        win32file.ReadFile(other, 5, pended)
        if {call!r} in ("FlushFileBuffers",):
            win32file.WriteFile(server, b"x")
        if {call!r} == "ConnectNamedPipe":
            listening = win32pipe.CreateNamedPipe(name + "-more", 3, 0, 255, 4, 4, 0, None)
        print("begins", flush=True)
        try:
            {BLOCKING[call]}
            print("returned", flush=True)
        except KeyboardInterrupt:
            print("interrupted", flush=True)
        except BaseException as error:
            print(repr(error), flush=True)
        sys.stdin.readline()
        """,
        name,
    )
    assert victim.line() == "begins"
    if call == "WaitNamedPipe":
        h.until_held(name, victim.pid)
    h.until(lambda: h.asleep(victim.pid))
    victim.process.send_signal(signal.SIGINT)
    assert victim.line() == "interrupted"
    victim.say("end")
    assert victim.wait() == 0
