"""The root folder: missing, foreign, open to all, squatted, stale; and other users' processes against access rules."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import textwrap
from typing import TYPE_CHECKING, Any

import pytest

import npipe
from npipe.transports.local import place
from tests.helpers import AS_ROOT
from tests.rendezvous import PLACES, Place, folder_of, page

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.conftest import Child

    Start = Callable[..., Child]

OTHER = 12345  # a user and a group that is nobody's
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as another user")


def exchange(name: str) -> None:
    with npipe.listen(name) as listener, npipe.connect(name) as client, listener.accept(5) as server:
        client.send(b"there")
        assert server.recv(timeout=5) == b"there"


def code_and_text(call: Callable[[], Any]) -> tuple[int, str]:
    with pytest.raises(npipe.PipeError) as caught:
        call()
    return caught.value.winerror, str(caught.value)


# ---- Which root


def test_npipe_root_comes_first(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("NPIPE_ROOT", str(tmp_path / "a"))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    assert place.root_folder() == str(tmp_path / "a")


def test_default_roots_in_their_order(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("NPIPE_ROOT")
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setattr("tempfile.gettempdir", lambda: "/somewhere/tmp")
    there = {"/run/npipe", str(tmp_path)}
    monkeypatch.setattr("npipe.binding.is_folder", there.__contains__)
    assert place.root_folder() == "/run/npipe"
    there.discard("/run/npipe")
    assert place.root_folder() == str(tmp_path / "npipe")
    there.clear()
    assert place.root_folder() == f"/somewhere/tmp/npipe-{os.geteuid()}"
    there.add(str(tmp_path))
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    assert place.root_folder() == f"/somewhere/tmp/npipe-{os.geteuid()}"
    monkeypatch.setenv("NPIPE_ROOT", "")  # as good as not set
    assert place.root_folder() == f"/somewhere/tmp/npipe-{os.geteuid()}"


def test_every_face_is_there_without_a_folder_for_temporary_files(name: str) -> None:
    script = """
        import sys, tempfile
        tempfile._candidate_tempdir_list = lambda: ["/not/there"]
        import npipe, npipe.aio, npipe.connection, npipe.win32
        with npipe.listen(sys.argv[1]) as listener, npipe.connect(sys.argv[1]) as client, listener.accept(5) as server:
            client.send(b"there")
            print(server.recv(timeout=5).decode())
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), name], capture_output=True, text=True, timeout=30, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "there\n", "")


def test_root_is_looked_up_for_each_call(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str) -> None:
    monkeypatch.setenv("NPIPE_ROOT", str(tmp_path / "a"))
    with npipe.listen(name):
        monkeypatch.setenv("NPIPE_ROOT", str(tmp_path / "b"))
        with pytest.raises(npipe.PipeNotFoundError):
            npipe.connect(name)
        with npipe.listen(name):  # another name space
            assert len(npipe.list_pipes()) == 1
        monkeypatch.setenv("NPIPE_ROOT", str(tmp_path / "a"))
        npipe.connect(name).close()


# ---- Missing, and made


def test_missing_root_is_made_by_listen_for_this_user_alone(root: Path, name: str) -> None:
    assert not root.exists()
    with pytest.raises(npipe.PipeNotFoundError) as caught:
        npipe.connect(name)
    assert caught.value.winerror == 2
    with pytest.raises(npipe.PipeNotFoundError):
        npipe.wait(name, timeout=5)
    assert npipe.list_pipes() == []
    assert not root.exists()  # looking makes nothing
    exchange(name)
    assert root.stat().st_mode & 0o7777 == 0o700
    assert list(root.iterdir()) == []


def test_missing_parent_is_a_clear_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str) -> None:
    monkeypatch.setenv("NPIPE_ROOT", str(tmp_path / "no" / "such" / "folder"))
    code, text = code_and_text(lambda: npipe.listen(name))
    assert code in (2, 3)
    assert "no/such/folder" in text
    assert code_and_text(lambda: npipe.connect(name))[0] == 2
    assert npipe.list_pipes() == []


def test_root_made_in_spite_of_a_strange_umask(root: Path, name: str, child: Start) -> None:
    worker = child(
        """
        import os, sys, npipe
        os.umask(0)
        with npipe.listen(sys.argv[1]) as l:
            c = npipe.connect(sys.argv[1])
            print(oct(os.stat(os.environ["NPIPE_ROOT"]).st_mode & 0o7777), flush=True)
            for path in os.scandir(os.environ["NPIPE_ROOT"]):
                print(oct(path.stat().st_mode & 0o7777), flush=True)
        """,
        name,
    )
    assert worker.line() == "0o700"
    assert worker.line() == "0o700"
    assert worker.wait() == 0


def test_root_removed_under_a_live_server_can_be_made_anew(root: Path, name: str) -> None:
    import shutil

    with npipe.listen(name):
        shutil.rmtree(root)
        assert code_and_text(lambda: npipe.connect(name))[0] == 2
        exchange(name + "-other")
    exchange(name)
    assert list(root.iterdir()) == []


# ---- Whose it is


@needs_root
@pytest.mark.parametrize("mode", [0o700, 0o755, 0o777, 0o1777])
def test_foreign_root_is_refused(root: Path, name: str, mode: int) -> None:
    root.mkdir()
    root.chmod(mode)
    os.chown(root, OTHER, OTHER)
    for call in (lambda: npipe.listen(name), lambda: npipe.connect(name), lambda: npipe.wait(name, timeout=1)):
        code, text = code_and_text(call)
        assert code == 5
        assert str(OTHER) in text
        assert str(root) in text
    code, text = code_and_text(npipe.list_pipes)
    assert code == 5
    assert str(OTHER) in text
    assert list(root.iterdir()) == []


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o722, 0o702])
def test_root_that_others_may_write_to_is_refused_without_the_sticky_bit(root: Path, name: str, mode: int) -> None:
    root.mkdir()
    root.chmod(mode)
    for call in (lambda: npipe.listen(name), lambda: npipe.connect(name), npipe.list_pipes):
        code, text = code_and_text(call)
        assert code == 5
        assert f"{mode:04o}" in text
        assert "sticky" in text
    assert list(root.iterdir()) == []


@pytest.mark.parametrize("mode", [0o1777, 0o1770, 0o755, 0o750])
def test_root_with_the_sticky_bit_or_without_foreign_writers_is_fine(root: Path, name: str, mode: int) -> None:
    root.mkdir()
    root.chmod(mode)
    exchange(name)
    assert root.stat().st_mode & 0o7777 == mode
    assert list(root.iterdir()) == []


@pytest.mark.parametrize("kind", ["file", "fifo", "socket", "dangling", "loop", "link to file"])
def test_root_that_is_no_folder(root: Path, name: str, kind: str, tmp_path: Path) -> None:
    if kind == "file":
        root.write_text("mine")
    elif kind == "fifo":
        os.mkfifo(root)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(str(root))
    elif kind == "loop":
        root.symlink_to(root)
    elif kind == "link to file":
        (tmp_path / "file").write_text("x")
        root.symlink_to(tmp_path / "file")
    else:
        root.symlink_to(tmp_path / "nowhere")
    code, text = code_and_text(lambda: npipe.listen(name))
    assert code in (2, 3, 5)
    assert str(root) in text
    assert code_and_text(lambda: npipe.connect(name))[0] in (2, 3, 5)
    assert code_and_text(lambda: npipe.wait(name, timeout=1))[0] in (2, 3, 5)
    if kind == "file":
        assert root.read_text() == "mine"


def test_root_may_be_a_symbolic_link_of_ones_own(root: Path, name: str, tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.mkdir(mode=0o700)
    root.symlink_to(target)
    exchange(name)
    assert list(target.iterdir()) == []


@needs_root
def test_symbolic_link_of_another_user_is_refused(root: Path, name: str, tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.mkdir(mode=0o700)
    root.symlink_to(target)
    os.chown(root, OTHER, OTHER, follow_symlinks=False)
    for call in (lambda: npipe.listen(name), lambda: npipe.connect(name), npipe.list_pipes):
        assert code_and_text(call)[0] == 5


@pytest.mark.parametrize("length", [107, 108, 250, 1000])
def test_long_root_path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, length: int) -> None:
    place = tmp_path
    while len(str(place)) + 101 < length:
        place /= "d" * 100
    place.mkdir(parents=True, exist_ok=True)
    monkeypatch.setenv("NPIPE_ROOT", str(place / ("r" * max(1, length - len(str(place)) - 1))))
    exchange(name)
    exchange("x" * 200)


def test_relative_root_and_odd_characters(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NPIPE_ROOT", "relative root %s \u00e9\n\udcff")
    exchange(name)


def test_dangling_link_of_ones_own_is_not_followed_into_a_new_folder(root: Path, name: str, tmp_path: Path) -> None:
    root.symlink_to(tmp_path / "nowhere")
    with pytest.raises(npipe.PipeError):
        npipe.listen(name)
    assert not (tmp_path / "nowhere").exists()


# ---- What stands where a pipe's folder should be


@needs_root
def test_pipe_folder_squatted_by_another_user(root: Path, name: str) -> None:
    root.mkdir()
    root.chmod(0o1777)
    squatted = folder_of(name)
    squatted.mkdir(mode=0o755)
    os.chown(squatted, OTHER, OTHER)
    code, text = code_and_text(lambda: npipe.listen(name))
    assert code == 5
    assert str(OTHER) in text
    assert code_and_text(lambda: npipe.connect(name))[0] in (2, 5)
    assert npipe.list_pipes() == []
    assert squatted.is_dir()  # it is not ours to remove
    assert list(squatted.iterdir()) == []
    exchange(name + "-other")


@pytest.mark.parametrize("kind", ["file", "fifo", "link", "dangling"])
def test_something_else_where_the_folder_should_be(root: Path, name: str, kind: str, tmp_path: Path) -> None:
    root.mkdir(mode=0o700)
    place = folder_of(name)
    if kind == "file":
        place.write_text("mine")
    elif kind == "fifo":
        os.mkfifo(place)
    elif kind == "link":
        (tmp_path / "elsewhere").mkdir()
        place.symlink_to(tmp_path / "elsewhere")
    else:
        place.symlink_to(tmp_path / "nowhere")
    code, text = code_and_text(lambda: npipe.listen(name))
    assert code == 5
    assert "folder" in text
    assert code_and_text(lambda: npipe.connect(name))[0] in (2, 5)
    assert code_and_text(lambda: npipe.wait(name, timeout=1))[0] in (2, 5)
    assert npipe.list_pipes() == []
    assert os.path.lexists(place)
    exchange(name + "-other")


@pytest.mark.parametrize("kind", ["file", "fifo", "folder", "link"])
def test_something_else_where_the_socket_should_be(root: Path, name: str, kind: str, tmp_path: Path) -> None:
    place = folder_of(name)
    place.mkdir(parents=True, mode=0o700)
    root.chmod(0o700)
    fake = place / "s0123456789abcdef"
    if kind == "file":
        fake.write_text("no socket")
    elif kind == "fifo":
        os.mkfifo(fake)
    elif kind == "folder":
        fake.mkdir()
    else:
        fake.symlink_to(tmp_path / "nowhere")
    assert code_and_text(lambda: npipe.connect(name, timeout=5))[0] == 2
    assert code_and_text(lambda: npipe.wait(name, timeout=5))[0] == 2
    assert npipe.list_pipes() == []
    exchange(name)


@pytest.mark.parametrize("what", ["lock", "pipe"])
@pytest.mark.parametrize("kind", ["fifo", "folder", "link"])
def test_something_else_among_the_pipes_files(root: Path, name: str, what: str, kind: str, tmp_path: Path) -> None:
    place = folder_of(name)
    place.mkdir(parents=True, mode=0o700)
    root.chmod(0o700)
    if kind == "fifo":
        os.mkfifo(place / what)
    elif kind == "folder":
        (place / what).mkdir()
    else:
        (tmp_path / "precious").write_text("precious")
        (place / what).symlink_to(tmp_path / "precious")
    try:
        npipe.listen(name).close()
    except npipe.PipeError as error:
        refused: npipe.PipeError | None = error
    else:
        refused = None
    assert refused is None or refused.winerror in (5, 1450)
    assert refused is None or "pipe's" in str(refused)
    assert code_and_text(lambda: npipe.connect(name, timeout=5))[0] == 2
    if kind == "link":
        assert (tmp_path / "precious").read_text() == "precious"


# ---- What the dead left


def bind_in(folder: Path, made: socket.socket, name: str) -> None:
    """Bind a socket in a folder whose path may be longer than a socket's address."""
    place = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        made.bind(f"/proc/self/fd/{place}/{name}")
    finally:
        os.close(place)


def test_stale_socket_of_a_dead_process(root: Path, name: str) -> None:
    place = folder_of(name)
    place.mkdir(parents=True, mode=0o700)
    root.chmod(0o700)
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as made:
        bind_in(place, made, "s0123456789abcdef")
    assert code_and_text(lambda: npipe.connect(name))[0] == 2
    assert list(root.iterdir()) == []
    exchange(name)


@pytest.mark.parametrize("looks", ["connect", "list", "listen", "wait"])
@pytest.mark.parametrize("page", [b"", b"garbage", b"\xff" * 100_000, os.urandom(6000), bytes(6000)])
def test_stale_folder_with_a_garbage_page(root: Path, name: str, page: bytes, looks: str) -> None:
    place = folder_of(name)
    place.mkdir(parents=True, mode=0o700)
    root.chmod(0o700)
    (place / "pipe").write_bytes(page)
    (place / "draft-s00").write_bytes(b"")
    if looks == "connect":
        assert code_and_text(lambda: npipe.connect(name))[0] == 2
    elif looks == "wait":
        assert code_and_text(lambda: npipe.wait(name, timeout=5))[0] == 2
    elif looks == "list":
        assert npipe.list_pipes() == []
    exchange(name)
    assert list(root.iterdir()) == []


def test_stale_page_that_counts_instances_of_the_dead(root: Path, name: str) -> None:
    place = folder_of(name)
    place.mkdir(parents=True, mode=0o700)
    root.chmod(0o700)
    dead = [Place(number + 1, pid=1, instances=1, listening=1, waiters=1) for number in range(PLACES)]
    (place / "pipe").write_bytes(page(dead))
    exchange(name)
    assert list(root.iterdir()) == []


def test_live_folder_is_not_removed_by_those_who_look(root: Path, name: str) -> None:
    with npipe.listen(name, max_instances=1) as listener:
        place = folder_of(name)
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as made:
            bind_in(place, made, "s0123456789abcdef")  # beside the live one, a dead one
        for _ in range(3):
            assert [pipe.name for pipe in npipe.list_pipes()] == [listener.name]
            npipe.wait(name, timeout=5)
        client = npipe.connect(name)
        with listener.accept(5) as server:
            client.send(b"x")
            assert server.recv(timeout=5) == b"x"
            client.close()
        assert place.is_dir()
    assert list(root.iterdir()) == []


def test_strangers_files_in_the_root_do_not_matter(root: Path, name: str) -> None:
    root.mkdir(mode=0o700)
    (root / "notes.txt").write_text("mine")
    (root / "folder").mkdir()
    (root / "folder" / "file").write_text("mine")
    exchange(name)
    with npipe.listen(name) as listener:
        assert [pipe.name for pipe in npipe.list_pipes()] == [listener.name]
    assert (root / "notes.txt").read_text() == "mine"
    assert (root / "folder" / "file").read_text() == "mine"


# ---- Other users

AS_USER = """
    import os, sys, npipe
    import encodings.utf_16_le, npipe.transports.local, pwd, socket, traceback  # while they may still be read
    npipe.names.parse_name("x")
    uid, gid, groups, name, what = sys.argv[1:6]
    os.setgroups([int(group) for group in groups.split(",") if group])
    os.setgid(int(gid))
    os.setuid(int(uid))
    try:
        if what == "list":
            print(sorted(pipe.name for pipe in npipe.list_pipes()), flush=True)
        elif what == "wait":
            npipe.wait(name, timeout=5)
            print("ok", flush=True)
        elif what == "listen":
            listener = npipe.listen(name, security="everyone")
            print("ok", flush=True)
            with listener.accept() as pipe:
                pipe.send(pipe.recv())
                sys.stdin.readline()
            listener.close()
        elif what in ("read", "write"):
            npipe.connect(name, mode="byte", access=what, timeout=5).close()
            print("ok", flush=True)
        else:
            pipe = npipe.connect(name, timeout=5, verify_owner=what != "any owner")
            pipe.send(b"hello")
            print(pipe.recv(timeout=10).decode(), flush=True)
    except npipe.PipeError as error:
        print(type(error).__name__, error.winerror, error, flush=True)
"""


def as_user(
    child: Start, name: str, what: str = "talk", *, uid: int = OTHER, gid: int = OTHER, groups: str = ""
) -> Child:
    return child(AS_USER, str(uid), str(gid), groups, name, what)


RULES: list[tuple[str, Any, dict[str, Any], bool]] = [
    ("owner", "owner", {}, False),
    ("everyone", "everyone", {}, True),
    ("group, main", npipe.Security(groups=(OTHER,)), {"uid": 4242}, True),
    ("group, further", npipe.Security(groups=(777,)), {"groups": "5,777"}, True),
    ("group, none", npipe.Security(groups=(777,)), {"groups": "5,778"}, False),
    ("user", npipe.Security(users=(OTHER,)), {}, True),
    ("another user", npipe.Security(users=(4242,)), {}, False),
]


@AS_ROOT
@pytest.mark.parametrize(("security", "who", "allowed"), [rule[1:] for rule in RULES], ids=[rule[0] for rule in RULES])
def test_other_users_against_access_rules(
    child: Start, name: str, shared_root: Path, security: Any, who: dict[str, Any], allowed: bool
) -> None:
    assert shared_root.is_dir()
    with npipe.listen(name, security=security) as listener:
        visitor = as_user(child, name, **who)
        if allowed:
            with listener.accept(5) as pipe:
                assert pipe.recv(timeout=10) == b"hello"
                assert pipe.peer.uid == who.get("uid", OTHER)
                assert pipe.peer.pid == visitor.pid
                pipe.send(b"welcome")
                assert visitor.line() == "welcome"
            waiter = as_user(child, name, "wait", **who)
            assert waiter.line() == "ok"
            lister = as_user(child, name, "list", **who)
            assert lister.line() == repr([listener.name])
        else:
            assert visitor.line().startswith("PipeAccessError 5")
            waiter = as_user(child, name, "wait", **who)
            assert waiter.line().startswith("PipeAccessError 5")
            lister = as_user(child, name, "list", **who)
            assert lister.line() == "[]"  # only what the user may connect to
        npipe.connect(name).close()  # the server goes on, and the owner may always connect
    assert list(shared_root.iterdir()) == []


@AS_ROOT
@pytest.mark.parametrize(
    ("security", "may"),
    [(npipe.Security(everyone=True, read=False), "write"), (npipe.Security(everyone=True, write=False), "read")],
)
def test_rule_for_one_direction_only(
    child: Start, name: str, shared_root: Path, security: npipe.Security, may: str
) -> None:
    assert shared_root.is_dir()
    with npipe.listen(name, mode="byte", security=security):
        for access in ("read", "write"):
            visitor = as_user(child, name, access)
            assert visitor.line().split(" ")[:2] == (["ok"] if access == may else ["PipeAccessError", "5"])
        with pytest.raises(npipe.PipeAccessError):
            npipe.connect(name, mode="byte")


@AS_ROOT
def test_client_talks_only_to_servers_of_its_user_or_of_root(child: Start, name: str, shared_root: Path) -> None:
    assert shared_root.is_dir()
    server = as_user(child, name, "listen")
    assert server.line() == "ok"
    code, text = code_and_text(lambda: npipe.connect(name))
    assert code == 5
    assert str(OTHER) in text
    code, text = code_and_text(lambda: npipe.call(name, b"secret"))
    assert code == 5
    stranger = as_user(child, name, uid=4242, gid=4242)
    assert stranger.line().startswith("PipeAccessError 5")
    trusting = as_user(child, name, "any owner", uid=4242, gid=4242)
    assert trusting.line() == "hello"
    server.say("end")
    assert server.wait() == 0
    assert list(shared_root.iterdir()) == []


@AS_ROOT
def test_name_of_another_user_cannot_be_taken_or_shared(child: Start, name: str, shared_root: Path) -> None:
    server = as_user(child, name, "listen")
    assert server.line() == "ok"
    for exclusive in (True, False):
        code, text = code_and_text(lambda: npipe.listen(name, exclusive=exclusive))  # noqa: B023
        assert code == 5
        assert str(OTHER) in text
    server.kill()
    # Only its user may take away what it left; for the others the name is as good as free to look at.
    assert code_and_text(lambda: npipe.connect(name))[0] == 2
    heir = as_user(child, name, "listen")
    assert heir.line() == "ok"
    client = npipe.connect(name, verify_owner=False)
    client.send(b"back")
    assert client.recv(timeout=10) == b"back"
    assert client.peer.uid == OTHER
    heir.say("end")
    assert heir.wait() == 0
    client.close()
    assert list(shared_root.iterdir()) == []


@AS_ROOT
def test_listing_survives_folders_that_one_may_not_enter(child: Start, name: str, shared_root: Path) -> None:
    (shared_root / "SECRET").mkdir(mode=0o700)
    with npipe.listen(name, security="everyone") as listener, npipe.listen(name + "-mine"):
        lister = as_user(child, name, "list")
        assert lister.line() == repr([listener.name])
        assert len(npipe.list_pipes()) == 2
