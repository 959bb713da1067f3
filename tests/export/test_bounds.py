"""What one client, one server or one other user cannot do to an exported pipe, and what export() promises."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pwd
import queue
import resource
import select
import socket
import stat
import threading
from typing import TYPE_CHECKING, Any

import pytest

import npipe
from npipe.pipe import peer_of
from npipe.samba import PrivateSmbd
from npipe.transports.export import crowd as crowds
from npipe.transports.export import gateway, relay, sockets
from tests import helpers as h
from tests.export.helpers import ALICE, BOB, GUEST, PROBE, Request, Smbd, exported

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.conftest import Child

    Start = Callable[..., Child]

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")


def short(name: str) -> str:
    return name.removeprefix("\\\\.\\pipe\\")


@contextlib.contextmanager
def descriptors_limited(limit: int) -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


# ---- Crowds

CROWD = """
import socket, sys
path, request = sys.argv[1], bytes.fromhex(sys.argv[2])
connections = []
for _ in range(150):
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(20)
    connection.connect(path)
    connection.sendall(request)
    connections.append(connection)
print("all have asked", flush=True)
let_in = 0
for connection in connections:
    try:
        let_in += len(connection.recv(36)) == 36
    except ConnectionResetError:
        pass
print(let_in, flush=True)
input()
"""


def test_one_user_who_waits_does_not_use_up_the_descriptors(
    name: str, samba_dir: Path, child: Start, caplog: pytest.LogCaptureFixture
) -> None:
    with npipe.listen(name, remote="samba", allow="authenticated", max_instances=1) as listener:
        with Smbd(samba_dir, short(name), BOB) as first, listener.accept(10) as pipe, descriptors_limited(256):
            crowd = child(CROWD, str(samba_dir / "np" / short(name)), ALICE.hex())
            assert crowd.line() == "all have asked"
            assert crowd.line() == "32"  # 256 / 8, of one user at one address, for nobody else waits
            h.until(lambda: h.requests_held(name) == 32)
            with Smbd(samba_dir, short(name), BOB) as another:
                assert another.let_in
                first.send(b"goes on")
                assert pipe.recv(timeout=10) == b"goes on"
                with npipe.listen("another-pipe") as other, npipe.connect("another-pipe", timeout=10) as client:
                    client.send(b"so does this")
                    with other.accept(10) as end:
                        assert end.recv(timeout=10) == b"so does this"
            told = [record for record in caplog.records if "too many wait" in record.getMessage()]
            assert len(told) == 1
            crowd.say("")
            assert crowd.wait() == 0
            h.until(lambda: h.requests_held(name) == 0)
            with Smbd(samba_dir, short(name)) as again:
                assert again.let_in


class Waiting:
    """Clients of a pipe whose one instance is taken, at a gateway that has eight places."""

    def __init__(self, name: str, directory: Path, stack: contextlib.ExitStack) -> None:
        self._name, self._directory, self._stack = short(name), directory, stack
        self.clients: list[Smbd] = []

    def come(self, *requests: Request) -> list[bool]:
        """Let clients come, one after the other: which of them are let in."""
        for request in requests:
            client = Smbd(self._directory, self._name, request.packed())
            self.clients.append(self._stack.enter_context(client))
        return [client.let_in for client in self.clients[len(self.clients) - len(requests) :]]

    def given_way(self, *numbers: int) -> bool:
        """Whether these have been hung up on, and no other of those that were let in."""
        for number in numbers:
            assert self.clients[number].message() is None
        others = [one for number, one in enumerate(self.clients) if one.let_in and number not in numbers]
        return not any(map(_hung_up, others))


@pytest.fixture
def waiting(name: str, samba_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Waiting]:
    monkeypatch.setattr(crowds, "_MOST_WAITING", 8)
    with (
        npipe.listen(name, remote="samba", allow=("authenticated", "guests"), max_instances=1) as listener,
        contextlib.ExitStack() as stack,
        Smbd(samba_dir, short(name), Request(account="first").packed()),
        listener.accept(10),
    ):
        yield Waiting(name, samba_dir, stack)


def client(account: str, address: str = "10.0.0.1") -> Request:
    """A user's, or a guest's, which has the uid of all guests and whatever name it likes."""
    if account.startswith("guest"):
        sids = ("S-1-5-32-546", "S-1-1-0", "S-1-5-2")
        return Request(account=account, uid=65534, gid=65534, address=address, sids=sids, authenticated=False)
    return Request(account=account, address=address)


def test_a_user_who_waits_gives_way_until_another_has_as_much(waiting: Waiting) -> None:
    assert waiting.come(*[client("bob")] * 9) == [True] * 8 + [False]
    assert waiting.come(*[client("alice")] * 5) == [True] * 4 + [False]
    assert waiting.come(client("bob")) == [False]
    assert waiting.given_way(4, 5, 6, 7)  # bob's youngest


def test_a_user_s_addresses_are_one_user_s(waiting: Waiting) -> None:
    addresses = [client("bob", f"10.0.{number}.1") for number in range(8)]
    assert waiting.come(*addresses) == [True] * 8
    assert waiting.come(*[client("alice")] * 5) == [True] * 4 + [False]
    assert waiting.come(client("bob", "10.1.0.1")) == [False]
    h.until(lambda: sum(map(_hung_up, waiting.clients[:8])) == 4)


def test_accounts_that_are_one_user_of_this_system_have_a_share_each(waiting: Waiting) -> None:
    """All those of an smbd that is not root's are."""
    assert waiting.come(*[client("bob")] * 8) == [True] * 8
    assert waiting.come(client("alice"), client("carol")) == [True] * 2
    assert waiting.given_way(6, 7)


def test_of_a_user_s_addresses_the_one_that_has_most_gives_way(waiting: Waiting) -> None:
    assert waiting.come(*[client("bob")] * 4, *[client("alice")] * 4) == [True] * 8
    assert waiting.come(client("bob", "10.0.0.2"), client("bob", "10.0.0.2")) == [True] * 2
    assert waiting.come(client("bob", "10.0.0.2"), client("bob")) == [False] * 2
    assert waiting.given_way(2, 3)


def test_guests_are_one_user_whatever_they_call_themselves_and_share_by_address(waiting: Waiting) -> None:
    assert waiting.come(*[client(f"guest{number}", "fd00::1") for number in range(8)]) == [True] * 8
    assert waiting.come(client("guest", "fd00::2")) == [False]  # the same network
    assert waiting.come(*[client("guest", "fd00:0:0:1::1")] * 2) == [True] * 2
    assert waiting.come(*[client("alice")] * 5) == [True] * 4 + [False]
    assert waiting.come(client("guest", "fd00:0:0:2::1")) == [True]  # of the guests' four, at an address without one
    assert waiting.come(client("guest", "fd00:0:0:2::1")) == [False]


def test_who_has_given_way_leaves_a_place_that_is_whole(waiting: Waiting) -> None:
    the_gateway = gateway._gateway
    assert the_gateway is not None
    for _ in range(3):
        assert waiting.come(*[client("bob")] * 8) == [True] * 8
        assert waiting.come(*[client("alice")] * 4) == [True] * 4
        for one in waiting.clients:
            one.close()
        waiting.clients.clear()
        h.until(lambda: (the_gateway.crowd.waiting, the_gateway.crowd.silent) == (0, 0))
        assert the_gateway.crowd._users == {}


def test_a_place_is_made_also_while_those_who_have_most_are_about_to_get_an_instance(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(crowds, "_MOST_WAITING", 6)
    crowd, gave_way = crowds.Crowd(), list[str]()

    def come(user: str, address: str, *, gives_way: bool = True) -> bool:
        def give_way() -> bool:
            if gives_way:
                gave_way.append(f"{user} at {address}")
            return gives_way

        return crowd.enter().known(crowds.Who((user,), address), give_way)

    assert come("alice", "1", gives_way=False)
    assert come("alice", "1", gives_way=False)
    assert come("alice", "2")
    assert come("alice", "3", gives_way=False)
    assert come("bob", "4")
    assert come("bob", "4")
    assert come("carol", "5")
    assert gave_way == ["alice at 2"]
    assert come("dave", "6")
    assert gave_way == ["alice at 2", "bob at 4"]
    assert not come("eve", "7")
    assert not come("bob", "4")
    assert crowd.waiting == 6


def _hung_up(one: Smbd) -> bool:
    poll = select.poll()
    poll.register(one.socket, select.POLLRDHUP)
    return poll.poll(0) != []


def test_who_says_nothing_leaves_descriptors_and_others_their_turn(
    name: str, samba_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gateway, "_REQUEST_PATIENCE", 0.5)
    with npipe.listen(name, remote="samba", allow="authenticated") as listener, contextlib.ExitStack() as silent:
        the_gateway = gateway._gateway
        assert the_gateway is not None
        before = h.descriptors()
        silent.callback(listener.close)
        monkeypatch.setattr(crowds, "_MOST_WAITING", 4)
        for _ in range(40):
            silent.enter_context(Smbd(samba_dir, short(name), None))
        for _ in range(2):  # turns of its loop, in which it accepts what it will
            turned = threading.Event()
            the_gateway.call(turned.set)
            assert turned.wait(h.DEADLINE)
        assert h.descriptors() - before - 40 <= 4
        with Smbd(samba_dir, short(name)) as client, listener.accept(10) as pipe:
            client.send(b"after them")
            assert pipe.recv(timeout=10) == b"after them"


class NotedLock(h.NotedLock):
    def acquire(self) -> None:
        self.__enter__()

    def release(self) -> None:
        self.__exit__()


def test_a_child_has_no_connection_that_has_just_come(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fork waits until what was accepted is known, and so closed in the child."""
    lock = NotedLock()
    monkeypatch.setattr(gateway, "_accepting", lock)
    with lock:
        forking = h.started(_forked_child)
        assert lock.wanted.wait(h.DEADLINE)
        assert forking.running
    assert forking.result() == 0
    assert not lock.locked()


def _forked_child() -> int:
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


# ---- Clients that write and go


@pytest.mark.parametrize("count", [1, 5, 6])
def test_a_client_that_writes_too_much_and_goes_frees_a_server_that_only_writes(
    name: str, samba_dir: Path, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    monkeypatch.setattr(relay, "LINGER", 0.3)
    options = {"in_buffer_size": 1000, "out_buffer_size": 1000}
    with npipe.listen(name, remote="samba", allow="authenticated", **options) as listener:  # type: ignore[call-overload]
        with Smbd(samba_dir, short(name)) as client, listener.accept(10) as pipe:
            client.send(*[bytes(60_000)] * count)
            client.close()

            def write_for_ever() -> None:
                while True:
                    pipe.send(b"tick")

            assert h.started(write_for_ever).code() in (109, 232)


def test_what_it_wrote_is_read_by_who_reads_in_time(name: str, samba_dir: Path) -> None:
    messages = [bytes([number]) * 60_000 for number in range(6)]
    with npipe.listen(name, remote="samba", allow="authenticated", in_buffer_size=1000) as listener:
        with Smbd(samba_dir, short(name)) as client, listener.accept(10) as pipe:
            client.send(*messages)
            client.close()
            assert [pipe.recv(timeout=10) for _ in messages] == messages
            with h.fails(109):
                pipe.recv(timeout=10)


class Lingers:
    """Has each spell of LINGER over when the test says so."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._begun: queue.Queue[Callable[[], object]] = queue.Queue()
        self._sleep = asyncio.sleep
        monkeypatch.setattr(relay, "LINGER", 77.0)
        monkeypatch.setattr(asyncio, "sleep", self._linger)

    async def _linger(self, delay: float) -> None:
        if delay != relay.LINGER:
            await self._sleep(delay)
            return
        loop, over = asyncio.get_running_loop(), asyncio.Event()
        self._begun.put(lambda: loop.call_soon_threadsafe(over.set))
        await over.wait()

    def begun(self) -> Callable[[], object]:
        return self._begun.get(timeout=10)


@pytest.mark.parametrize("size", [20_000, 60_000])
@pytest.mark.parametrize("mode", ["message", "byte"])
def test_a_server_that_reads_slowly_gets_all_of_a_client_that_has_gone(
    name: str, samba_dir: Path, monkeypatch: pytest.MonkeyPatch, size: int, mode: str
) -> None:
    lingers = Lingers(monkeypatch)
    messages = [bytes([number]) * size for number in range(1, 7)]
    options: Any = {"remote": "samba", "allow": "authenticated", "in_buffer_size": 1000, "mode": mode}
    with npipe.listen(name, **options) as listener, Smbd(samba_dir, short(name)) as client:
        with listener.accept(10) as pipe:

            def read() -> bytes:
                if mode == "message":
                    return bytes(pipe.recv(timeout=10))
                data = b""
                while len(data) < size:
                    data += pipe.read(size - len(data), timeout=10)
                return data

            if mode == "message":
                client.send(*messages)
            else:
                client.socket.sendall(b"".join(messages))
            client.close()
            the_gateway = gateway._gateway
            assert the_gateway is not None
            h.until(lambda: len(the_gateway.relays) == 1)
            (carried,) = the_gateway.relays
            got = []
            for _ in range(4):
                is_over, taken = lingers.begun(), carried._taken
                got.append(read())
                h.until(lambda taken=taken: carried._taken > taken)  # type: ignore[misc]
                is_over()
            lingers.begun()
            got += [read() for _ in messages[4:]]
            assert got == messages
            with h.fails(109):
                read()


def test_a_client_that_reads_slowly_gets_all_of_a_server_that_has_closed(
    name: str, samba_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spells: queue.Queue[Callable[[], object]] = queue.Queue()
    real = relay.all_is_taken

    async def over_when_told(connection: socket.socket, _patience: float) -> bool:
        loop, over = asyncio.get_running_loop(), asyncio.Event()
        spells.put(lambda: loop.call_soon_threadsafe(over.set))
        await over.wait()
        return await real(connection, 0)

    monkeypatch.setattr(relay, "all_is_taken", over_when_told)
    messages = [bytes([number]) * 20_000 for number in range(6)]
    with npipe.listen(name, remote="samba", allow="authenticated", out_buffer_size=1 << 20) as listener:
        with Smbd(samba_dir, short(name)) as client:
            with listener.accept(10) as pipe:
                for message in messages:
                    pipe.send(message, timeout=10)
            got = []
            for _ in messages:
                is_over = spells.get(timeout=10)
                got.append(client.message())
                is_over()
            assert got == messages
            assert list(client.messages()) == []


def test_a_client_that_reads_nothing_is_let_go(name: str, samba_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay, "LINGER", 0.1)
    with npipe.listen(name, remote="samba", allow="authenticated", out_buffer_size=1 << 20) as listener:
        with Smbd(samba_dir, short(name)):
            with listener.accept(10) as pipe:
                pipe.send(b"never read", timeout=10)
            the_gateway = gateway._gateway
            assert the_gateway is not None
            h.until(lambda: not the_gateway.relays)


# ---- What export() promises


def test_export_raises_what_it_promises(name: str, samba_dir: Path) -> None:
    with npipe.listen(name, remote="samba", allow="alice"):
        with pytest.raises(npipe.PipeAccessError, match=r"WinError 5.*another process exports it"):
            npipe.export(name, allow="alice")
    with h.fails(123):
        npipe.export("x" * 150, allow="alice")
    for bad in ("a/b", ".."):
        with h.fails(123):
            npipe.export(bad, allow="alice")
    with h.fails(50):
        npipe.export(name, allow="alice", samba_dir="/nonexistent/there")
    assert exported(samba_dir) == []


def test_an_export_has_its_turn_when_the_place_is_free(
    name: str, samba_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gateway, "_RETRY", 0.02)
    with npipe.export(name, allow="alice"):
        with socket.socket(socket.AF_UNIX) as taken:
            path = samba_dir / "np" / short(name)
            taken.bind(str(path))
            taken.listen()
            with npipe.listen(name) as listener:
                taken.settimeout(10)
                for _ in range(3):  # it looks again and again
                    taken.accept()[0].close()
                taken.close()
                h.until(lambda: _is_let_in(samba_dir, name))
                with Smbd(samba_dir, short(name)) as client:
                    client.send(b"in")
                    while True:
                        with listener.accept(10) as pipe, contextlib.suppress(npipe.PipeClosedError):
                            assert pipe.recv(timeout=10) == b"in"
                            break


def test_who_looks_if_somebody_listens_is_not_logged(
    name: str, samba_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with npipe.listen(name, remote="samba", allow="authenticated"):
        the_gateway = gateway._gateway
        assert the_gateway is not None
        with h.fails(5):
            npipe.export(name, allow="alice")  # it has looked
        with Smbd(samba_dir, short(name), PROBE) as after_it:
            assert after_it.let_in
        h.until(lambda: not the_gateway._tasks)
        assert [record.getMessage() for record in caplog.records] == []
        with socket.socket(socket.AF_UNIX) as cut_off:
            cut_off.connect(str(samba_dir / "np" / short(name)))
            cut_off.sendall(ALICE[:3])
        h.until(lambda: any("not understood: it has hung up" in record.getMessage() for record in caplog.records))


def _is_let_in(samba_dir: Path, name: str) -> bool:
    with contextlib.suppress(ConnectionRefusedError, FileNotFoundError), Smbd(samba_dir, short(name)) as client:
        return client.let_in
    return False


def test_a_probe_of_a_pipe_that_has_gone_finds_none(name: str, samba_dir: Path) -> None:
    with npipe.export(name, allow="authenticated"):
        with npipe.listen(name):
            h.until(lambda: exported(samba_dir) == [short(name).lower()])
            with Smbd(samba_dir, short(name), PROBE) as probe:
                assert probe.let_in
        with Smbd(samba_dir, short(name), PROBE) as probe:
            assert not probe.let_in
        h.until(lambda: exported(samba_dir) == [])


# ---- Folders


def test_a_file_that_is_no_socket_is_left_alone(name: str, samba_dir: Path) -> None:
    (samba_dir / "np").mkdir(mode=0o700)
    path = samba_dir / "np" / short(name)
    path.write_text("a file of somebody's")
    with pytest.raises(npipe.PipeAccessError, match="no socket"):
        npipe.listen(name, remote="samba", allow="alice")
    with pytest.raises(npipe.PipeAccessError, match="no socket"):
        npipe.export(name, allow="alice")
    assert path.read_text() == "a file of somebody's"


@pytest.mark.parametrize(("mode", "fits"), [(0o700, True), (0o755, True), (0o777, False), (0o770 | 0o20, False)])
def test_a_folder_that_others_may_write_to_is_refused(name: str, samba_dir: Path, mode: int, fits: bool) -> None:
    (samba_dir / "np").mkdir()
    (samba_dir / "np").chmod(mode)
    with contextlib.nullcontext() if fits else h.fails(5), npipe.export(name, allow="alice"):
        pass
    with contextlib.nullcontext() if fits else h.fails(5), npipe.listen(name, remote="samba", allow="alice"):
        pass
    (samba_dir / "np").chmod(0o1777)  # in a sticky one others cannot replace what is there
    with npipe.export(name, allow="alice"):
        pass


@needs_root
def test_another_user_s_folder_is_refused(name: str, samba_dir: Path) -> None:
    (samba_dir / "np").mkdir(mode=0o700)
    os.chown(samba_dir / "np", 65534, 65534)
    with h.fails(5):
        npipe.listen(name, remote="samba", allow="alice")
    with h.fails(5):
        npipe.export(name, allow="alice")


@pytest.mark.parametrize(("mode", "fits"), [(0o755, True), (0o1777, True), (0o777, False), (0o775, False)])
def test_a_samba_dir_in_which_others_may_replace_the_folder_is_refused(
    name: str, samba_dir: Path, mode: int, fits: bool
) -> None:
    samba_dir.chmod(mode)
    with contextlib.nullcontext() if fits else h.fails(5), npipe.export(name, allow="alice"):
        pass
    with contextlib.nullcontext() if fits else h.fails(5), npipe.listen(name, remote="samba", allow="alice"):
        pass
    assert (samba_dir / "np").exists() == fits


@needs_root
def test_a_samba_dir_of_another_user_s_is_refused(name: str, samba_dir: Path) -> None:
    (samba_dir / "np").mkdir(mode=0o700)
    os.chown(samba_dir, 65534, 65534)
    with h.fails(5):
        npipe.listen(name, remote="samba", allow="alice")
    with h.fails(5):
        npipe.export(name, allow="alice")


def test_a_folder_that_is_a_symbolic_link_is_refused(name: str, samba_dir: Path) -> None:
    (samba_dir / "mine").mkdir(mode=0o700)
    (samba_dir / "np").symlink_to("mine")
    with pytest.raises(npipe.PipeAccessError, match=r"WinError 5.*symbolic link"):
        npipe.listen(name, remote="samba", allow="alice")
    with pytest.raises(npipe.PipeAccessError, match=r"WinError 5.*symbolic link"):
        npipe.export(name, allow="alice")
    assert list((samba_dir / "mine").iterdir()) == []


def test_a_private_smbd_s_folder_that_others_may_write_to_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "smb"
    folder.mkdir()
    folder.chmod(0o777)
    with h.fails(5):
        PrivateSmbd(folder)
    assert list(folder.iterdir()) == []
    folder.chmod(0o755)
    PrivateSmbd(folder)
    for entry in ("extra.conf", "users", "private", "pipes"):
        mode = (folder / entry).stat().st_mode
        (folder / entry).chmod(0o777)
        with pytest.raises(npipe.PipeAccessError, match=entry):
            PrivateSmbd(folder)
        (folder / entry).chmod(mode)
    PrivateSmbd(folder)


@pytest.mark.parametrize("mask", [0, 0o002, 0o277])
def test_a_private_smbd_s_files_are_this_user_s_alone_whatever_the_umask(tmp_path: Path, mask: int) -> None:
    folder = tmp_path / "smb"
    before = os.umask(mask)
    try:
        smbd = PrivateSmbd(folder)
        with contextlib.suppress(npipe.PipeStateError):  # there may be no Samba; its configuration is written first
            smbd.add_user(pwd.getpwuid(os.getuid()).pw_name, "secret")
        for entry in (folder, folder / "pipes", folder / "private"):
            assert stat.S_IMODE(entry.stat().st_mode) == 0o700, entry
        for entry in (folder / "smb.conf", folder / "users", folder / "extra.conf"):
            assert stat.S_IMODE(entry.stat().st_mode) == 0o600, entry
        PrivateSmbd(folder)  # finds nothing that it refuses
    finally:
        os.umask(before)


@needs_root
@pytest.mark.parametrize("entry", ["", "extra.conf", "users", "private", "smb.conf"])
def test_a_private_smbd_s_folder_of_another_user_s_is_refused(tmp_path: Path, entry: str) -> None:
    folder = tmp_path / "smb"
    PrivateSmbd(folder)
    (folder / "smb.conf").touch()
    os.chown(folder / entry, 65534, 65534)
    with h.fails(5):
        PrivateSmbd(folder)


@needs_root
def test_a_link_of_another_user_s_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "smb"
    PrivateSmbd(folder)
    (tmp_path / "theirs").touch()
    (folder / "extra.conf").unlink()
    (folder / "extra.conf").symlink_to(tmp_path / "theirs")
    PrivateSmbd(folder)
    os.chown(folder / "extra.conf", 65534, 65534, follow_symlinks=False)
    with h.fails(5):
        PrivateSmbd(folder)


def test_who_can_read_the_folder_holds_nobody_up(name: str, samba_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import fcntl

    monkeypatch.setattr(sockets, "_PATIENCE", 0.0)
    (samba_dir / "np").mkdir(mode=0o755)
    folder = os.open(samba_dir / "np", os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        with npipe.listen(name, remote="samba", allow="alice"):
            assert exported(samba_dir) == [short(name).lower()]
    finally:
        os.close(folder)
    lock = next((samba_dir / "np").glob(".LOCK*"))
    assert lock.stat().st_mode & 0o777 == 0o600


def test_the_lock_is_waited_for_off_the_gateway_s_loop(name: str, samba_dir: Path) -> None:
    """A process that keeps the lock holds up none of the clients that are there."""
    import fcntl

    with npipe.listen(name, remote="samba", allow="alice") as listener, npipe.export("later", allow="alice"):
        lock = next((samba_dir / "np").glob(".LOCK*")).open("r+")
        with lock, Smbd(samba_dir, short(name)) as client, listener.accept(10) as pipe:
            fcntl.flock(lock, fcntl.LOCK_EX)
            with npipe.listen("later"):
                for number in range(200):
                    client.send(b"%d" % number)
                    assert pipe.recv(timeout=2) == b"%d" % number
                assert exported(samba_dir) == [short(name).lower()]
                fcntl.flock(lock, fcntl.LOCK_UN)
                h.until(lambda: exported(samba_dir) == sorted(["later", short(name).lower()]))


@pytest.mark.parametrize(("display", "entry"), [("ΑΣ", "ασ"), ("İ", "i"), ("ÄÖ", "äö"), ("STRASSE-ß", "strasse-ß")])
def test_a_name_is_in_lower_case_as_samba_has_it(samba_dir: Path, display: str, entry: str) -> None:
    with npipe.listen(display, remote="samba", allow="alice"):
        assert exported(samba_dir) == [entry]


# ---- Ends that travel

CHILD = """
import sys
import pywintypes, win32file, win32pipe
handle = int(sys.argv[1])
print(bytes(win32file.ReadFile(handle, 100)[1]).decode(), flush=True)
try:
    print(win32pipe.GetNamedPipeHandleState(handle, False, True), flush=True)
except pywintypes.error as error:
    print(error.winerror, flush=True)
from npipe.transports.local.blocking import TRANSPORT
peer = TRANSPORT.client_of(handle)
print(peer.pid, peer.uid, peer.user, peer.origin, peer.kind, flush=True)
"""

PARENT = f"""
import subprocess, sys
from npipe import win32
win32.install(pywin32=True, children=True)
import pywintypes, win32pipe, npipe
inherited = pywintypes.SECURITY_ATTRIBUTES()
inherited.bInheritHandle = True
server = win32pipe.CreateNamedPipe(sys.argv[1], 3, 6, 1, 65536, 65536, 0, inherited)
with npipe.export(sys.argv[1], allow="guests"):
    print("exported", flush=True)
    win32pipe.ConnectNamedPipe(server, None)
    input()
    subprocess.run([sys.executable, "-c", {CHILD!r}, str(int(server))], close_fds=False, check=True)
"""


def test_an_end_that_travels_does_not_make_a_local_user_of_its_client(name: str, samba_dir: Path, child: Start) -> None:
    server = child(PARENT, name)
    assert server.line() == "exported"
    h.until((samba_dir / "np" / short(name)).is_socket)
    with Smbd(samba_dir, short(name), GUEST) as client:
        assert client.let_in
        client.send(b"hello")
        server.say("")
        assert server.line() == "hello"
        assert server.line() == "1368"
        assert server.line() == "0 None None samba anonymous"
        assert server.wait() == 0


def test_a_uid_of_nobody_s_is_no_user_of_this_machine() -> None:
    peer = peer_of(4711, 0xFFFFFFFF)
    assert (peer.pid, peer.uid, peer.user, peer.origin, peer.kind) == (0, None, None, "samba", "anonymous")


# ---- The process's end


def test_who_comes_in_at_the_end_does_not_keep_others_from_being_settled(
    name: str, samba_dir: Path, child: Start
) -> None:
    """When the time that the end gives those who come in is over, those who are in still have theirs."""
    del samba_dir
    script = """
    import asyncio, sys, npipe
    from npipe.transports.export import gateway
    gateway._AT_EXIT = 0.2
    listener = npipe.listen(sys.argv[1], remote="samba", allow="authenticated")

    class Relay:
        async def settle(self, patience):
            print("settled", flush=True)

    def begin(it=gateway._gateway):
        it._entering.add(asyncio.ensure_future(asyncio.Event().wait()))
        it.relays.add(Relay())

    gateway._gateway.call(begin)
    """
    server = child(script, name)
    assert server.line() == "settled"
    assert server.wait() == 0
