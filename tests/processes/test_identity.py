"""Who is who: threads that act as clients, those whom a user namespace does not map, and owners who lie about names."""

from __future__ import annotations

import contextlib
import os
import pwd
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import npipe
from npipe.names import name_in_folder, parse_name
from npipe.win32 import win32api, win32file, win32pipe, win32security
from tests import helpers as h
from tests import rendezvous
from tests.helpers import AS_ROOT
from tests.win32 import helpers as w

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.conftest import Child

    Start = Callable[..., Child]

pytestmark = pytest.mark.usefixtures("shared_root")

UID, GID = pwd.getpwnam("nobody")[2:4]

USER = """
    import os, sys
    uid, gid, name = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    import npipe, npipe.transports.local
    npipe.names.parse_name("x")
    os.setgroups([])
    os.setgid(gid)
    os.setuid(uid)

    def code(call):
        try:
            call().close()
        except npipe.PipeError as error:
            return error.winerror
        return 0

    kept = []
    print("ready", flush=True)
    for line in sys.stdin:
        print(eval(line), flush=True)
"""


@pytest.fixture
def user(child: Start, name: str) -> Child:
    """A process of the user "nobody"."""
    made = child(USER, str(UID), str(GID), name)
    assert made.line() == "ready"
    return made


def does(who: Child, expression: str) -> str:
    who.say(expression)
    return who.line()


def ids() -> tuple[int, ...]:
    """The calling thread's effective ids and its groups."""
    status = Path("/proc/thread-self/status").read_text(encoding="utf-8").splitlines()
    fields = {line.partition(":")[0]: line.partition(":")[2].split() for line in status}
    return int(fields["Uid"][1]), int(fields["Gid"][1]), *map(int, fields["Groups"])


def in_thread(call: Callable[[], Any]) -> Any:
    """What a call gives in a thread that this one starts."""
    return h.Background(call).result(h.DEADLINE)


@contextlib.contextmanager
def acting(user: Child, name: str) -> Iterator[None]:
    """This thread acts as the user, who has written to a pipe for everyone."""
    handle = w.create(name + "-in", mode=w.MESSAGE, sa=everyone())
    does(user, "kept.append(npipe.connect(name + '-in', verify_owner=False)) or kept[-1].send(b'me')")
    waiting = w.with_event()
    if win32pipe.ConnectNamedPipe(handle, waiting) == w.PENDING:
        assert w.result(handle, waiting) == (0, 0)
    assert win32file.ReadFile(handle, 10) == (0, b"me")
    win32security.ImpersonateNamedPipeClient(handle)
    try:
        yield
    finally:
        win32security.RevertToSelf()
        handle.Close()


def everyone() -> object:
    attributes = win32security.SECURITY_ATTRIBUTES()
    attributes.SetSecurityDescriptorDacl(1, None, 0)
    return attributes


# --- Threads that act as clients


@AS_ROOT
def test_a_thread_that_acts_as_a_client_lets_that_client_into_no_other_pipe(name: str, user: Child) -> None:
    # The folder and its socket can be reached, so that the rule alone stands between them.
    with npipe.listen(name, security=npipe.Security(users=(4242,))) as listener:
        before = does(user, "code(lambda: npipe.connect(name, verify_owner=False))")
        with acting(user, name):
            refused = h.Background(
                lambda: does(user, "code(lambda: npipe.connect(name, verify_owner=False, timeout=5))")
            )
            with pytest.raises(npipe.PipeTimeoutError):
                listener.accept(1.0)  # this thread answers at the pipe's socket
            assert refused.result(h.DEADLINE) == "5"
        assert before == "5"
        with npipe.connect(name), listener.accept(5):  # its owner is root still
            pass


@AS_ROOT
def test_a_request_that_another_owner_holds_is_told_of_an_instance_of_a_thread_that_acts_as_a_client(
    name: str, user: Child, child: Start, shared_root: Path
) -> None:
    other = child(
        """
        import sys
        from npipe.win32 import win32file, win32pipe
        server = win32pipe.CreateNamedPipe(sys.argv[1], 3, 6, 255, 0, 0, 0, None)
        client = win32file.CreateFile(sys.argv[1], 0xC0000000, 0, None, 3, 0, None)
        print("busy", flush=True)
        sys.stdin.readline()
        """,
        name,
    )
    assert other.line() == "busy"
    path = rendezvous.socket_of(name)
    server = w.create(name, mode=w.MESSAGE)
    client = win32file.CreateFile(name, 0xC0000000, 0, None, 3, 0, None)
    with rendezvous.dial(path, h.DEADLINE) as held:
        held.send(rendezvous.request(rendezvous.OPEN, flags=rendezvous.HOLD))
        assert rendezvous.code_of(held.recv(100)) == rendezvous.IO_PENDING
        with acting(user, name):
            win32pipe.DisconnectNamedPipe(server)
            assert win32pipe.ConnectNamedPipe(server, w.with_event()) == w.PENDING
            assert rendezvous.code_of(held.recv(100)) == rendezvous.RETRY
            assert ids()[0] == UID
    client.Close()
    other.say("")
    assert other.wait() == 0


@AS_ROOT
def test_a_thread_started_by_one_that_acts_as_a_client_is_the_process_again_after_reverting(
    name: str, user: Child
) -> None:
    before = ids()

    def revert() -> tuple[tuple[int, ...], tuple[int, ...]]:
        inherited = ids()
        win32security.RevertToSelf()
        return inherited, ids()

    with acting(user, name):
        inherited, after = in_thread(revert)
        assert ids()[0] == UID
    assert inherited[0] == UID  # Linux copies a thread's credentials to those that it starts
    assert after == before


@AS_ROOT
def test_what_a_thread_started_by_one_that_acts_as_a_client_makes_is_the_process_s(
    name: str, user: Child, shared_root: Path
) -> None:
    def make() -> tuple[int, str, str]:
        with npipe.listen(name, security=npipe.Security(users=(4242,))):
            owner = rendezvous.folder_of(name).stat().st_uid
            return owner, does(user, "code(lambda: npipe.connect(name, verify_owner=False))"), win32api.GetUserName()

    with acting(user, name):
        assert in_thread(make) == (0, "5", pwd.getpwuid(0).pw_name)
        assert ids()[0] == UID


@AS_ROOT
def test_what_a_thread_makes_while_it_acts_as_a_client_is_the_client_s(
    name: str, user: Child, shared_root: Path
) -> None:
    with acting(user, name):
        listener = npipe.listen(name)
        assert rendezvous.folder_of(name).stat().st_uid == UID
        assert does(user, "code(lambda: npipe.connect(name, timeout=5))") == "0"
    assert does(user, "code(lambda: npipe.connect(name, timeout=0))") in ("0", "231")
    listener.close()
    assert not rendezvous.folder_of(name).exists()


@AS_ROOT
def test_a_pipe_is_cleared_away_by_a_thread_that_acts_as_a_client(name: str, user: Child, shared_root: Path) -> None:
    listener = npipe.listen(name)
    with acting(user, name):
        listener.close()
        assert not rendezvous.folder_of(name).exists()
        assert ids()[0] == UID


@AS_ROOT
def test_a_fork_of_a_thread_that_acts_as_a_client_starts_as_the_process(name: str, child: Start) -> None:
    """The threads of the child, and the pipe that it makes, are root's."""
    server = child(
        """
        import os, sys, npipe, traceback
        from pathlib import Path
        from npipe.names import parse_name
        from npipe.win32 import win32file, win32pipe, win32security
        name = sys.argv[1]
        attributes = win32security.SECURITY_ATTRIBUTES()
        attributes.SetSecurityDescriptorDacl(1, None, 0)
        handle = win32pipe.CreateNamedPipe(name + "-in", 3, 6, 255, 0, 0, 0, attributes)
        print("listens", flush=True)
        win32pipe.ConnectNamedPipe(handle, None)
        win32file.ReadFile(handle, 10)
        win32security.ImpersonateNamedPipeClient(handle)
        forked = os.fork()
        if forked == 0:
            try:
                with npipe.listen(name):
                    tasks = [Path(f"/proc/self/task/{task}/status") for task in os.listdir("/proc/self/task")]
                    lines = [line.split() for task in tasks for line in task.read_text().splitlines()]
                    users = {line[2] for line in lines if line[:1] == ["Uid:"]}
                    folder = Path(os.environ["NPIPE_ROOT"]) / parse_name(name).folder
                    with npipe.connect(name, timeout=5):
                        print(sorted(users), len(tasks) > 1, folder.stat().st_uid, flush=True)
            except BaseException:
                traceback.print_exc()
            os._exit(0)
        os.waitpid(forked, 0)
        print(os.geteuid(), flush=True)
        """,
        name,
    )
    assert server.line() == "listens"
    visitor = child(USER, str(UID), str(GID), name)
    assert visitor.line() == "ready"
    does(visitor, "kept.append(npipe.connect(name + '-in', verify_owner=False)) or kept[-1].send(b'me')")
    assert server.line() == "['0'] True 0"
    assert server.line() == str(UID)


# --- Names and tokens


@AS_ROOT
def test_the_user_s_name_is_of_whom_the_thread_acts_as(name: str, user: Child, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOGNAME", "somebody")
    assert win32api.GetUserName() == pwd.getpwuid(0).pw_name
    with acting(user, name):
        assert win32api.GetUserName() == "nobody"
    assert win32api.GetUserName() == pwd.getpwuid(0).pw_name


@AS_ROOT
def test_a_server_asks_who_its_client_is_by_the_thread_s_token(name: str, user: Child) -> None:
    with acting(user, name):
        token = win32security.OpenThreadToken(win32api.GetCurrentThread(), 8, True)
        process = win32security.OpenProcessToken(win32api.GetCurrentProcess(), 8)
    who: Any = win32security.GetTokenInformation(token, win32security.TokenUser)
    assert win32security.LookupAccountSid(None, who[0])[0] == "nobody"
    assert who[1] == 0
    groups: Any = win32security.GetTokenInformation(token, win32security.TokenGroups)
    assert [win32security.ConvertSidToStringSid(group) for group, _ in groups] == [f"S-1-22-2-{GID}"]
    assert win32security.GetTokenInformation(token, win32security.TokenType) == win32security.TokenImpersonation
    who = win32security.GetTokenInformation(process, win32security.TokenUser)
    assert win32security.LookupAccountSid(None, who[0])[0] == pwd.getpwuid(0).pw_name
    assert win32security.GetTokenInformation(process, win32security.TokenType) == win32security.TokenPrimary


def test_a_thread_has_a_token_only_while_it_acts_as_a_client(name: str) -> None:
    server, client = w.connected(name)
    thread = win32api.GetCurrentThread()
    assert w.code_of(win32security.OpenThreadToken, thread, 8, True) == 1008
    win32file.WriteFile(client, b"x")
    win32file.ReadFile(server, 5)
    win32security.ImpersonateNamedPipeClient(server)  # of the same user, who need not be root
    token = win32security.OpenThreadToken(thread, 8, False)
    assert w.code_of(win32security.OpenThreadToken, server, 8, True) == 6
    win32security.RevertToSelf()
    assert w.code_of(win32security.OpenThreadToken, thread, 8, True) == 1008
    who: Any = win32security.GetTokenInformation(token, win32security.TokenUser)
    assert win32security.ConvertSidToStringSid(who[0]) == f"S-1-22-1-{os.geteuid()}"


# --- User namespaces

INSIDE = """
    import ctypes, os, sys
    name = sys.argv[1]
    import npipe, npipe.transports.local
    npipe.names.parse_name("x")
    os.setgroups([])
    if ctypes.CDLL(None).unshare(0x10000000) != 0:
        print("no", flush=True)
        sys.exit()
    print("unshared", flush=True)
    sys.stdin.readline()
    uid = int(sys.argv[2])
    os.setgid(uid)
    os.setuid(uid)

    def code(call):
        try:
            call().close()
        except npipe.PipeError as error:
            return error.winerror
        return 0

    kept = []
    print("ready", flush=True)
    for line in sys.stdin:
        print(eval(line), flush=True)
"""


def inside(child: Start, name: str, uid: int, text: str) -> Child:
    """A process in a user namespace with this map, as the user `uid` there."""
    made = child(INSIDE, name, str(uid))
    if made.line() != "unshared":
        pytest.skip("user namespaces cannot be made here")
    for ids_of in ("uid_map", "gid_map"):
        Path(f"/proc/{made.process.pid}/{ids_of}").write_text(text, encoding="utf-8")
    made.say("")
    assert made.line() == "ready"
    return made


PARTIAL = "0 0 1\n65534 65534 1\n"
WHOLE = "0 0 4294967295\n"


@AS_ROOT
def test_those_whom_a_user_namespace_does_not_map_match_no_rule(name: str, child: Start) -> None:
    server = inside(child, name, 0, PARTIAL)
    rule = "npipe.Security(users=(65534,), groups=(65534,))"
    assert does(server, f"kept.append(npipe.listen(name, security={rule}))") == "None"
    stranger = child(USER, "4242", "4242", name)
    assert stranger.line() == "ready"
    assert does(stranger, "code(lambda: npipe.connect(name, verify_owner=False, timeout=5))") == "5"
    npipe.connect(name).close()


@AS_ROOT
def test_a_namespace_s_nobody_does_not_trust_the_pipe_of_one_who_is_not_mapped(name: str, child: Start) -> None:
    stranger = child(USER, "4242", "4242", name)
    assert stranger.line() == "ready"
    assert does(stranger, "kept.append(npipe.listen(name, security='everyone'))") == "None"
    client = inside(child, name, 65534, PARTIAL)
    assert does(client, "code(lambda: npipe.connect(name, timeout=5))") == "5"
    assert does(client, "code(lambda: npipe.listen(name))") == "5"
    assert does(client, "code(lambda: npipe.listen(name + '-own'))") == "5"  # nor is any folder nobody's own


@AS_ROOT
@pytest.mark.parametrize("namespace", [False, True])
def test_where_all_are_mapped_nobody_is_a_user_like_others(name: str, child: Start, namespace: bool) -> None:
    one = inside(child, name, 65534, WHOLE) if namespace else child(USER, "65534", "65534", name)
    assert namespace or one.line() == "ready"
    assert does(one, "kept.append(npipe.listen(name))") == "None"
    assert does(one, "code(lambda: npipe.connect(name, timeout=5))") == "0"
    stranger = child(USER, "4242", "4242", name)
    assert stranger.line() == "ready"
    assert does(stranger, "code(lambda: npipe.connect(name, verify_owner=False, timeout=5))") == "5"


# --- Owners who lie about their pipes


@contextlib.contextmanager
def liar(
    name: str, *, said: bytes | None = None, kind: int = 4, direction: int = 3, maximum: int = 255
) -> Iterator[None]:
    """An owner that answers queries with these."""
    text = parse_name(name).display.encode() if said is None else said
    head = rendezvous.answer(
        kind=rendezvous.QUERY, type=kind, direction=direction, max_instances=maximum, last=len(text)
    )
    with rendezvous.own(name, mode=0o755) as owner:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    client, _ = owner.socket.accept()
                    with client:
                        client.recv(100)
                        client.send(head + text)

        serving = threading.Thread(target=serve)
        serving.start()
        try:
            yield
        finally:
            owner.socket.shutdown(socket.SHUT_RDWR)
            serving.join(h.DEADLINE)


LIES: dict[str, dict[str, Any]] = {
    "no direction": {"direction": 0},
    "an unknown direction": {"direction": 9},
    "an unknown type": {"kind": 7},
    "no instances allowed": {"maximum": 0},
    "too many instances": {"maximum": 2**32 - 1},
    "not UTF-8": {"said": b"\xff\xfe"},
    "empty": {"said": b""},
    "another's name": {"said": b"another"},
    "a NUL": {"said": b"a\0b"},
    "too long": {"said": b"x" * 900},
}


@pytest.mark.parametrize("lie", LIES)
def test_an_owner_who_lies_about_his_pipe_is_left_out_of_the_list_and_the_others_are_listed(
    name: str, lie: str
) -> None:
    names = [f"{name}-{letter}" for letter in "ac"]
    with npipe.listen(names[0]), liar(f"{name}-b", **LIES[lie]), npipe.listen(names[1]):
        assert [pipe.name for pipe in npipe.list_pipes()] == names
        command = [sys.executable, "-m", "npipe", "ls"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=50, check=True)
        assert [parse_name(each).display in done.stdout for each in (*names, f"{name}-b")] == [True, True, False]


def test_an_owner_who_tells_the_truth_by_hand_is_listed(name: str) -> None:
    with liar(name):
        assert [pipe.name for pipe in npipe.list_pipes()] == [name]


@pytest.mark.parametrize("text", ["plain", ".hidden", "with/slash", "ß\U0001f600", "x" * 240, "a\ud800b"])
def test_a_name_is_its_folder_s_and_no_other_s(text: str) -> None:
    folder = os.fsencode(parse_name(rf"\\?\pipe\{text}").folder)
    assert name_in_folder(text.encode("utf-8", "surrogatepass"), folder) == text
    assert name_in_folder(text.encode("utf-8", "surrogatepass"), folder + b"x") is None


@AS_ROOT
def test_a_process_that_changes_its_user_on_purpose_is_not_made_root_again(
    user: Child, name: str, child: Start
) -> None:
    """Also where that user was once a client's, as whom a thread has acted: nothing of npipe's gives rights back."""
    server = child(
        """
        import os, sys, threading, npipe
        from npipe.win32 import win32api, win32file, win32pipe, win32security
        name, uid = sys.argv[1], int(sys.argv[2])
        everyone = win32security.SECURITY_ATTRIBUTES()
        everyone.SECURITY_DESCRIPTOR = win32security.SECURITY_DESCRIPTOR()
        everyone.SECURITY_DESCRIPTOR.SetSecurityDescriptorDacl(True, None, False)
        handle = win32pipe.CreateNamedPipe(name, 3, 6, 1, 100, 100, 0, everyone)
        print("listens", flush=True)
        win32pipe.ConnectNamedPipe(handle, None)
        win32file.ReadFile(handle, 10)
        win32security.ImpersonateNamedPipeClient(handle)
        assert os.geteuid() == uid
        win32security.RevertToSelf()
        assert os.geteuid() == 0
        os.seteuid(uid)
        npipe.list_pipes()
        win32api.GetUserName()
        win32security.RevertToSelf()
        found = []
        thread = threading.Thread(target=lambda: found.append((npipe.list_pipes(), os.getresuid())[1]))
        thread.start()
        thread.join()
        print(os.getresuid() == found[0] == (0, uid, 0), flush=True)
        """,
        name,
        str(UID),
    )
    assert server.line() == "listens"
    does(user, "kept.append(npipe.connect(name, verify_owner=False)) or kept[-1].send(b'me')")
    assert server.line() == "True"
    assert server.wait() == 0
