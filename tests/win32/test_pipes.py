"""Calls of npipe.win32 that the recorded scenarios cannot show: synchronous handles, identities, other processes."""

from __future__ import annotations

import os
import random
import re
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from npipe.win32 import completion, pywintypes, win32api, win32event, win32file, win32pipe, win32security
from tests import helpers as h
from tests.win32 import helpers as w

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.conftest import Child

    Start = Callable[..., Child]

if sys.platform == "win32":
    AS_ROOT = pytest.mark.skip(reason="Windows: nobody starts programs as others without their password")
    UID = GID = 0
else:
    import pwd

    AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root acts as others")
    UID, GID = pwd.getpwnam("nobody")[2:4]

# --- Synchronous handles serialise (SEMANTICS §6.4)

CALLS: dict[str, Callable[[w.Handle], object]] = {
    "WriteFile": lambda end: win32file.WriteFile(end, b"x"),
    "PeekNamedPipe": lambda end: win32pipe.PeekNamedPipe(end, 5),
    "GetNamedPipeHandleState": win32pipe.GetNamedPipeHandleState,
    "SetNamedPipeHandleState": lambda end: win32pipe.SetNamedPipeHandleState(end, 0, None, None),
    "GetNamedPipeInfo": win32pipe.GetNamedPipeInfo,
    "FlushFileBuffers": win32file.FlushFileBuffers,
    "DisconnectNamedPipe": win32pipe.DisconnectNamedPipe,
    "CloseHandle": lambda end: win32file.CloseHandle(end),
}


@pytest.mark.parametrize("call", CALLS)
def test_a_call_on_a_synchronous_handle_waits_for_the_read_that_is_under_way(name: str, call: str) -> None:
    server, client = w.connected(name, overlapped=False)
    reading = h.blocked_in(win32file.ReadFile, server, 5)
    second = h.blocked_in(CALLS[call], server)
    win32file.WriteFile(client, b"now")
    assert reading.result() == (0, b"now")
    second.result()


@pytest.mark.parametrize("mode", [w.BYTE, w.MESSAGE])
def test_an_overlapped_operation_on_a_synchronous_handle_takes_its_turn_before_it_starts(name: str, mode: int) -> None:
    server, client = w.connected(name, mode=mode, overlapped=False)
    reading = h.blocked_in(win32file.ReadFile, server, 5)
    overlapped = w.with_event()
    win32event.SetEvent(overlapped.hEvent)
    writing = h.blocked_in(win32file.WriteFile, server, b"behind", overlapped)
    asking = h.blocked_in(win32pipe.ConnectNamedPipe, server, w.with_event())
    assert win32pipe.PeekNamedPipe(client, 10) == (b"", 0, 0)
    assert w.signalled(overlapped.hEvent)
    win32file.WriteFile(client, b"now")
    assert reading.result() == (0, b"now")
    assert writing.result() == (0, 6)
    assert asking.result() == 535
    assert win32file.ReadFile(client, 10) == (0, b"behind")


def test_a_duplicate_of_a_synchronous_handle_waits_too(name: str) -> None:
    server, client = w.connected(name, overlapped=False)
    duplicate = win32api.DuplicateHandle(None, server, None, 0, False, 2)
    reading = h.blocked_in(win32file.ReadFile, server, 5)
    second = h.blocked_in(win32pipe.PeekNamedPipe, duplicate, 5)
    win32file.WriteFile(client, b"now")
    reading.result()
    second.result()


@pytest.mark.parametrize("call", [call for call in CALLS if call not in ("DisconnectNamedPipe", "CloseHandle")])
def test_an_overlapped_handle_and_the_other_end_do_not_wait(name: str, call: str) -> None:
    server, client = w.connected(name, client_overlapped=False)
    reading = h.blocked_in(win32file.ReadFile, server, 5)
    CALLS[call](client if call != "WriteFile" else server)
    if call != "FlushFileBuffers":
        CALLS[call](server)
    win32pipe.DisconnectNamedPipe(server)
    assert w.code_of(reading.result) == 233


def test_cancelling_the_call_that_is_under_way_lets_the_next_one_in(name: str) -> None:
    server, _client = w.connected(name, overlapped=False)
    handles: list[w.Handle] = []

    def read() -> object:
        handles.append(w.thread_handle())
        return win32file.ReadFile(server, 5)

    reading = h.blocked(read)
    closing = h.blocked_in(win32file.CloseHandle, server)
    completion.CancelSynchronousIo(handles[0])
    assert w.code_of(reading.result) == 995
    closing.result()


def test_a_write_that_is_read_as_a_whole_cannot_be_cancelled_any_more(name: str) -> None:
    server, client = w.connected(name, overlapped=False, quota=0)
    for number in range(100):  # the cancel comes while the writer wakes up
        data = b"%04d" % number
        handles: list[w.Handle] = []

        def write(data: bytes = data, handles: list[w.Handle] = handles) -> object:
            handles.append(w.thread_handle())
            return win32file.WriteFile(server, data)

        writing = h.blocked(write)
        assert win32file.ReadFile(client, 4) == (0, data)
        assert w.code_of(completion.CancelSynchronousIo, handles[0]) in (0, 1168)
        assert writing.result() == (0, 4)


ANSWERS = """
    import random, sys, time
    from npipe.win32 import pywintypes, win32file, win32pipe
    pipe = win32file.CreateFile(sys.argv[1], 0xC0000000, 0, None, 3, 0, None)
    win32pipe.SetNamedPipeHandleState(pipe, 2, None, None)
    try:
        while True:
            question = win32file.ReadFile(pipe, 10)[1]
            time.sleep(random.random() * 1e-4)
            win32file.WriteFile(pipe, question)
    except pywintypes.error as error:
        assert error.winerror in (109, 232), error
"""


def test_a_transaction_that_is_cancelled_too_late_has_its_answer(name: str, child: Callable[..., Child]) -> None:
    server = w.create(name, mode=w.MESSAGE, overlapped=False)
    child(ANSWERS, name)
    win32pipe.ConnectNamedPipe(server)
    mine, over = w.thread_handle(), threading.Event()

    def cancel() -> None:
        chance = random.Random(1)
        while not over.wait(chance.random() * 2e-4):
            w.code_of(completion.CancelSynchronousIo, mine)

    cancelling = h.started(cancel)
    cancelled = number = 0
    try:
        while cancelled < 1000:
            number += 1
            assert number < 50_000, "they are not cancelled"
            question = b"%04d" % number
            try:
                answer = win32pipe.TransactNamedPipe(server, question, 10)[1]
            except pywintypes.error as error:
                if error.winerror != 995:
                    raise
                cancelled += 1
                h.until(lambda: win32pipe.PeekNamedPipe(server, 10)[1] == 4)  # the request stays sent
                answer = win32pipe.PeekNamedPipe(server, 10)[0]
                while w.code_of(win32file.ReadFile, server, 10) == 995:
                    pass
            assert answer == question
    finally:
        over.set()
        cancelling.result()
    server.Close()


# --- Impersonation (SEMANTICS §11)


def identity() -> tuple[int, ...]:
    """Effective and other ids of the calling thread alone."""
    status = Path("/proc/thread-self/status").read_text()
    found = re.findall(r"^[UG]id:\s+(\d+)\s+(\d+)", status, re.MULTILINE)
    return tuple(int(number) for pair in found for number in pair)


CLIENT = """
    import os, sys
    name, uid, gid = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    from npipe.win32 import win32file, win32pipe, pywintypes
    "".encode("utf-16-le").decode("utf-16-le")  # loads what another user may not read
    if uid:
        os.setgroups([])
        os.setgid(gid)
        os.setuid(uid)
    for line in sys.stdin:
        access = {"r": 0x80000000, "w": 0x40000000, "rw": 0xC0000000, "0": 0}[line.strip().split()[0]]
        try:
            handle = win32file.CreateFile(name, access, 0, None, 3, 0, None)
            if access & 0x40000000:
                win32file.WriteFile(handle, b"it is me")
            print(0, flush=True)
        except pywintypes.error as error:
            print(error.winerror, flush=True)
"""


def everyone() -> object:
    attributes = win32security.SECURITY_ATTRIBUTES()
    attributes.SetSecurityDescriptorDacl(1, None, 0)
    return attributes


@AS_ROOT
def test_a_thread_of_root_acts_as_the_client_after_a_read_and_no_other_thread_does(
    name: str, child: Start, world: Path
) -> None:
    server = w.create(name, sa=everyone())
    client = child(CLIENT, name, str(UID), str(GID), env={"NPIPE_ROOT": str(world)})
    assert w.code_of(win32security.ImpersonateNamedPipeClient, server) == 1368
    client.say("rw")
    assert client.line() == "0"
    settle(server)
    assert w.code_of(win32security.ImpersonateNamedPipeClient, server) == 1368
    assert win32file.ReadFile(server, 2) == (0, b"it")
    before = identity()
    others: list[tuple[int, ...]] = []
    win32security.ImpersonateNamedPipeClient(server)
    try:
        while_acting = identity()
        thread = threading.Thread(target=lambda: others.append(identity()))
        thread.start()
        thread.join(h.DEADLINE)
        main = Path(f"/proc/self/task/{os.getpid()}/status").read_text()
    finally:
        win32security.RevertToSelf()
    assert while_acting[1] == UID
    assert while_acting[3] == GID
    assert main
    assert identity() == before
    win32security.RevertToSelf()
    assert identity() == before


@AS_ROOT
def test_what_one_thread_acts_as_leaves_the_main_thread_alone(name: str, child: Start, world: Path) -> None:
    server = w.create(name, sa=everyone())
    client = child(CLIENT, name, str(UID), str(GID), env={"NPIPE_ROOT": str(world)})
    client.say("rw")
    assert client.line() == "0"
    settle(server)
    assert win32file.ReadFile(server, 20) == (0, b"it is me")
    seen: list[tuple[int, ...]] = []
    acting, leave = threading.Event(), threading.Event()

    def act() -> None:
        win32security.ImpersonateNamedPipeClient(server)
        try:
            seen.append(identity())
            acting.set()
            assert leave.wait(h.DEADLINE)
        finally:
            win32security.RevertToSelf()
            seen.append(identity())

    before = identity()
    thread = threading.Thread(target=act)
    thread.start()
    assert acting.wait(h.DEADLINE)
    assert identity() == before
    assert sys.platform != "win32"
    assert os.geteuid() == 0
    leave.set()
    thread.join(h.DEADLINE)
    assert seen[0][1] == UID
    assert seen[1] == before


def test_impersonation_after_a_disconnect_is_1368_and_at_a_clients_end_1(name: str) -> None:
    server, client = w.connected(name)
    win32file.WriteFile(client, b"x")
    win32file.ReadFile(server, 5)
    win32security.ImpersonateNamedPipeClient(server)
    win32security.RevertToSelf()
    assert w.code_of(win32security.ImpersonateNamedPipeClient, client) == 1
    client.Close()
    win32security.ImpersonateNamedPipeClient(server)
    win32security.RevertToSelf()
    win32pipe.DisconnectNamedPipe(server)
    assert w.code_of(win32security.ImpersonateNamedPipeClient, server) == 1368
    assert w.code_of(win32security.ImpersonateNamedPipeClient, w.event()) == 6


# --- Who may connect


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> object:
    """A root folder that everybody can reach: pytest's own is for its user alone."""
    import shutil
    import tempfile

    folder = tempfile.mkdtemp(prefix="npipe-world-")
    Path(folder).chmod(0o755)
    root = Path(folder) / "root"
    root.mkdir()
    root.chmod(0o1777)
    monkeypatch.setenv("NPIPE_ROOT", str(root))
    yield root
    shutil.rmtree(folder, ignore_errors=True)


def descriptor(text: str) -> object:
    attributes = win32security.SECURITY_ATTRIBUTES()
    sddl = text.format(nobody=f"S-1-22-1-{UID}", group=f"S-1-22-2-{GID}")
    attributes.SECURITY_DESCRIPTOR = win32security.ConvertStringSecurityDescriptorToSecurityDescriptor(sddl, 1)
    return attributes


@AS_ROOT
@pytest.mark.parametrize(
    ("sa", "access", "code"),
    [
        (lambda: None, "rw", 5),
        (everyone, "rw", 0),
        (lambda: descriptor("D:(A;;GA;;;{nobody})"), "rw", 0),
        (lambda: descriptor("D:(A;;GA;;;{group})"), "rw", 0),
        (lambda: descriptor("D:(A;;GA;;;WD)"), "rw", 0),
        (lambda: descriptor("D:(A;;GA;;;S-1-22-1-12345)"), "rw", 5),
        (lambda: descriptor("D:(A;;GR;;;{nobody})"), "rw", 5),
        (lambda: descriptor("D:(A;;GR;;;{nobody})"), "r", 0),
        (lambda: descriptor("D:"), "r", 5),
    ],
)
def test_the_security_descriptor_decides_who_connects(
    name: str, child: Start, world: Path, sa: Callable[[], object], access: str, code: int
) -> None:
    server = w.create(name, sa=sa())
    client = child(CLIENT, name, str(UID), str(GID), env={"NPIPE_ROOT": str(world)})
    client.say(access)
    assert client.line() == str(code)
    overlapped = w.with_event()
    if code:  # a refused client does not use the instance up
        assert win32pipe.ConnectNamedPipe(server, overlapped) == w.PENDING
    else:
        assert win32pipe.ConnectNamedPipe(server, overlapped) == 535
        assert win32pipe.GetNamedPipeClientProcessId(server) == client.pid


# --- Another process

PEER = """
    import os, socket, sys
    from npipe.win32 import win32file, win32pipe
    handle = win32file.CreateFile(sys.argv[1], 0xC0000000, 0, None, 3, 0, None)
    told = socket.socket(fileno=int(sys.argv[2]))
    told.sendall(b".")
    while True:
        order = told.recv(1)
        if order == b"w":
            win32file.WriteFile(handle, b"hello")
        elif order == b"r":
            win32file.ReadFile(handle, 100)
        elif order == b"c":
            handle.Close()
        elif order == b"":
            break
        told.sendall(b".")
"""


class Peer:
    """A process with a client's end that does as it is told, and says when its call has returned."""

    def __init__(self, name: str) -> None:
        import socket
        import subprocess
        import sys
        import textwrap

        self.mine, theirs = socket.socketpair()
        self.mine.settimeout(20)
        self.process = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(PEER), name, str(theirs.fileno())], pass_fds=[theirs.fileno()]
        )
        theirs.close()
        assert self.mine.recv(1) == b"."

    def do(self, order: bytes) -> None:
        self.mine.sendall(order)
        assert self.mine.recv(1) == b"."

    def end(self) -> None:
        self.mine.close()
        assert self.process.wait(20) == 0


def settle(server: w.Handle) -> None:
    """Wait until the server's end knows of its client."""
    connecting = w.with_event()
    if win32pipe.ConnectNamedPipe(server, connecting) == w.PENDING:
        assert w.result(server, connecting) == (0, 0)


def test_a_client_that_is_open_is_known_at_once(name: str) -> None:
    for _ in range(5):
        server = w.create(name)
        connecting = w.with_event()
        assert win32pipe.ConnectNamedPipe(server, connecting) == w.PENDING
        peer = Peer(name)
        try:
            assert w.signalled(connecting.hEvent)
        finally:
            peer.end()
            server.Close()


def test_results_of_another_processs_calls_are_visible_to_a_wait_of_zero(name: str) -> None:
    server = w.create(name, quota=2)
    port_server = w.create(name, quota=2)
    peer = Peer(name)
    other = Peer(name)
    settle(server)
    settle(port_server)
    port = w.port_for(port_server)
    for _ in range(100):
        overlapped, buffer = w.read(server)
        peer.do(b"w")
        assert win32event.WaitForSingleObject(overlapped.hEvent, 0) == 0
        assert bytes(buffer[:5]) == b"hello"
        overlapped = w.write(server, b"answer")
        peer.do(b"r")
        assert win32event.WaitForMultipleObjects([w.event(), overlapped.hEvent], False, 0) == 1
        kept = win32file.OVERLAPPED()
        win32file.ReadFile(port_server, 10, kept)
        other.do(b"w")
        assert w.packet(port, 0) == (0, 5, 1, kept)
        called = w.Routine()
        kept_ex = w.read_ex(server, 10, called)
        peer.do(b"w")
        assert win32api.SleepEx(0, True) == 192
        assert called.calls == [(0, 5)]
        assert kept_ex
    overlapped, _ = w.read(server)
    peer.do(b"c")
    assert w.signalled(overlapped.hEvent)
    assert w.result(server, overlapped) == (109, 0)
    peer.end()
    other.end()


def test_the_death_of_the_peers_process_ends_what_is_pending(name: str) -> None:
    server = w.create(name, quota=2)
    peer = Peer(name)
    settle(server)
    reading, writing = w.read(server)[0], w.write(server, b"over the quota")
    waiting = h.blocked_in(win32event.WaitForMultipleObjects, [reading.hEvent, writing.hEvent], True, w.MS)
    peer.process.kill()
    assert waiting.result() == 0
    assert [w.result(server, reading), w.result(server, writing)] == [(109, 0), (109, 0)]
    peer.process.wait(20)
    peer.mine.close()


def test_a_pending_write_of_a_process_that_dies_vanishes_but_for_what_was_read(name: str, child: Start) -> None:
    server = w.create(name, mode=w.MESSAGE, quota=2)
    writer = child(
        """
        import sys
        from npipe.win32 import win32file
        handle = win32file.CreateFile(sys.argv[1], 0xC0000000, 0, None, 3, 0x40000000, None)
        overlapped = win32file.OVERLAPPED()
        assert win32file.WriteFile(handle, b"over the quota", overlapped)[0] == 997
        print("pending", flush=True)
        sys.stdin.readline()
        """,
        name,
    )
    assert writer.line() == "pending"
    settle(server)
    assert win32file.ReadFile(server, 4) == (234, b"over")
    writer.kill()
    assert w.code_of(win32file.ReadFile, server, 20) == 109


def test_process_ids_are_those_of_creation_and_opening(name: str) -> None:
    server = w.create(name)
    assert win32pipe.GetNamedPipeServerProcessId(server) == os.getpid()
    assert w.code_of(win32pipe.GetNamedPipeClientProcessId, server) == 1168
    peer = Peer(name)
    settle(server)
    assert win32pipe.GetNamedPipeClientProcessId(server) == peer.process.pid
    peer.end()
    assert win32pipe.GetNamedPipeClientProcessId(server) == peer.process.pid
    win32pipe.DisconnectNamedPipe(server)
    assert w.code_of(win32pipe.GetNamedPipeClientProcessId, server) == 1168


# --- WaitNamedPipe and CallNamedPipe


def test_wait_named_pipe_can_be_cancelled(name: str) -> None:
    server, _client = w.connected(name)
    handles: list[w.Handle] = []

    def wait() -> None:
        handles.append(w.thread_handle())
        win32pipe.WaitNamedPipe(name, w.MS)

    waiting = h.blocked(wait)
    try:
        completion.CancelSynchronousIo(handles[0])
        assert w.code_of(waiting.result) == 995
    finally:
        server.Close()


def test_a_transaction_on_a_synchronous_handle_can_be_cancelled(name: str) -> None:
    server, client = w.connected(name, mode=w.MESSAGE, overlapped=False)
    handles: list[w.Handle] = []

    def transact() -> object:
        handles.append(w.thread_handle())
        return win32pipe.TransactNamedPipe(client, b"request", 10, None)

    waiting = h.blocked(transact)
    try:
        completion.CancelSynchronousIo(handles[0])
        assert w.code_of(waiting.result) == 995
    finally:
        server.Close()


def test_call_named_pipe_gets_its_reply_from_an_overlapped_server(name: str) -> None:
    server = w.create(name, mode=w.MESSAGE)
    calling = h.started(win32pipe.CallNamedPipe, name, b"question", 20, w.MS)
    connecting = w.with_event()
    if win32pipe.ConnectNamedPipe(server, connecting) == w.PENDING:
        assert w.result(server, connecting) == (0, 0)
    assert win32file.ReadFile(server, 20) == (0, b"question")
    win32file.WriteFile(server, b"answer", w.with_event())
    assert calling.result() == b"answer"


def test_an_old_clients_pipe_has_no_instances_when_its_name_is_used_anew(name: str) -> None:
    server, client = w.connected(name)
    server.Close()
    assert win32pipe.GetNamedPipeHandleState(client)[1] == 0
    again = w.create(name)
    assert win32pipe.GetNamedPipeHandleState(client)[1] == 0
    assert again
