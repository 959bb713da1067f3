"""Users against users, with real processes of each: nobody gets at, lists, squats or disturbs what is not his."""

from __future__ import annotations

import grp
import select
import subprocess
import sys
import textwrap
import time
from typing import TYPE_CHECKING, Any

import pytest

import npipe
from tests import rendezvous
from tests.faults import helpers as f
from tests.helpers import AS_ROOT, CHECKOUT, Background, blocked, until, watches

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.conftest import Child

    Start = Callable[..., Child]

pytestmark = [AS_ROOT, pytest.mark.usefixtures("shared_root")]

OWNER, STRANGER, THIRD = 12345, 4242, 777  # users and groups that are nobody's

PERSON = """
    import ctypes, encodings.utf_16_le, errno, grp, os, pathlib, pwd, resource
    import shutil, signal, socket, struct, sys, threading, traceback
    import npipe, npipe.transports.local  # while they may still be read
    npipe.names.parse_name("x")
    uid, gid, groups, name, checkout = sys.argv[1:6]
    sys.path.insert(0, checkout)
    from tests import rendezvous
    os.setgroups([int(group) for group in groups.split(",") if group])
    os.setgid(int(gid))
    os.setuid(int(uid))
    ctypes.CDLL(None).prctl(4, 1)  # PR_SET_DUMPABLE: as if it had been started by this user
    root = os.environ["NPIPE_ROOT"]
    kept = {}

    def code(call):
        try:
            result = call()
        except npipe.PipeError as error:
            return error.winerror
        if hasattr(result, "close"):
            result.close()
        return 0

    def error(call):
        try:
            call()
        except OSError as failure:
            return errno.errorcode[failure.errno]
        return "done"

    def keep(key, value):
        kept[key] = value

    def dial(path):
        return rendezvous.dial(pathlib.Path(path), 20)

    def ask(path, kind, **more):
        with dial(path) as made:
            made.send(rendezvous.request(kind, **more))
            answer = made.recv(4096)
            return rendezvous.code_of(answer) if answer else None

    print("ready", flush=True)
    for line in sys.stdin:
        try:
            print(repr(eval(line)), flush=True)
        except BaseException as failure:
            print(repr(failure), flush=True)
"""


class Person:
    """A process of another user that evaluates expressions."""

    def __init__(self, made: Child) -> None:
        self.child = made
        assert made.line() == "ready"

    def does(self, expression: str) -> Any:
        """What an expression gives in that process."""
        self.child.say(expression)
        answer = self.child.line()
        try:
            return eval(answer, {"__builtins__": {}})
        except (NameError, SyntaxError):
            raise AssertionError(f"{expression}: {answer}") from None


@pytest.fixture
def person(child: Start, name: str) -> Callable[..., Person]:
    """person(uid): a process of that user."""

    def start(uid: int, *, groups: str = "", gid: int | None = None) -> Person:
        return Person(child(PERSON, str(uid), str(uid if gid is None else gid), groups, name, str(CHECKOUT)))

    return start


def serves(owner: Person, security: str = "'owner'", **options: Any) -> None:
    """The owner listens, and has a client of its own connected."""
    more = "".join(f", {key}={value!r}" for key, value in options.items())
    owner.does(f"keep('listener', npipe.listen(name, security={security}{more}))")
    owner.does("keep('client', npipe.connect(name))")
    owner.does("keep('server', kept['listener'].accept(20))")


def goes_on(owner: Person, number: int) -> None:
    """The owner's connection works, and new ones of his do."""
    owner.does(f"kept['client'].send(b'number %d' % {number})")
    assert owner.does("kept['server'].recv(timeout=20)") == b"number %d" % number
    owner.does("keep('second', npipe.connect(name, timeout=20))")
    owner.does("keep('accepted', kept['listener'].accept(20))")
    owner.does("kept['second'].send(b'new')")
    assert owner.does("kept['accepted'].recv(timeout=20)") == b"new"
    owner.does("(kept.pop('second').close(), kept.pop('accepted').close())")


def has_left(owner: Person) -> None:
    """A client that has come and gone has its instance replaced: accept passes it over, and finds nobody."""
    assert owner.does("code(lambda: kept['listener'].accept(0))") == 121


def came_and_went(listener: npipe.Listener[npipe.MessagePipe]) -> None:
    """The same in this process."""
    with pytest.raises(npipe.PipeTimeoutError):
        listener.accept(0)


ATTEMPTS = {
    "connect": ("code(lambda: npipe.connect(name))", 5),
    "connect to any owner": ("code(lambda: npipe.connect(name, verify_owner=False, timeout=1))", 5),
    "read": ("code(lambda: npipe.connect(name, access='read'))", 5),
    "call": ("code(lambda: npipe.call(name, b'x'))", 5),
    "wait": ("code(lambda: npipe.wait(name, timeout=1))", 5),
    "list": ("[pipe.name for pipe in npipe.list_pipes()]", []),
    "listen": ("code(lambda: npipe.listen(name))", 5),
    "join": ("code(lambda: npipe.listen(name, exclusive=False))", 5),
    "enter": ("error(lambda: os.listdir(folder))", "EACCES"),
    "rename": ("error(lambda: os.rename(folder, folder + '.old'))", "EPERM"),
    "remove": ("error(lambda: os.rmdir(folder))", "EPERM"),
    "chmod": ("error(lambda: os.chmod(folder, 0o777))", "EPERM"),
    "replace": ("error(lambda: os.rename(kept['mine'], folder))", "EPERM"),
    "page": ("error(lambda: open(folder + '/pipe', 'r+b'))", "EACCES"),
    "lock": ("error(lambda: open(folder + '/lock', 'r+b'))", "EACCES"),
    "add": ("error(lambda: open(folder + '/s0123456789abcdef', 'xb'))", "EACCES"),
    "memory": ("error(lambda: open(f'/proc/{owner}/mem', 'r+b'))", "EACCES"),
    "descriptors": ("error(lambda: os.listdir(f'/proc/{owner}/fd'))", "EACCES"),
    "kill": ("error(lambda: os.kill(owner, signal.SIGTERM))", "EPERM"),
}


def test_a_stranger_can_do_nothing_to_a_pipe_of_its_owner_alone(
    person: Callable[..., Person], name: str, shared_root: Path
) -> None:
    owner, stranger = person(OWNER), person(STRANGER)
    serves(owner)
    stranger.does(f"globals().update(folder={str(rendezvous.folder_of(name))!r}, owner={owner.child.pid})")
    stranger.does("(keep('mine', root + '/MINE'), os.mkdir(root + '/MINE'), os.mknod(root + '/MINE/file')) and 0")
    socket_path = rendezvous.socket_of(name)
    for number, (what, (expression, expected)) in enumerate(ATTEMPTS.items()):
        got = stranger.does(expression)
        if what == "list":  # his own folder is no pipe, and nothing of the owner's is told
            assert got == expected, what
        elif what == "replace":
            assert got in ("EPERM", "EACCES", "ENOTEMPTY"), (what, got)
        else:
            assert got == expected, (what, got)
        goes_on(owner, number)
    assert stranger.does(f"error(lambda: dial({str(socket_path)!r}))") == "EACCES"
    stranger.does("shutil.rmtree(kept['mine'])")
    owner.does("[item.close() for item in kept.values()]")
    assert list(shared_root.iterdir()) == []


def test_of_a_pipe_for_everyone_a_stranger_gets_a_connection_and_nothing_else(
    person: Callable[..., Person], name: str, shared_root: Path
) -> None:
    owner, stranger = person(OWNER), person(STRANGER)
    serves(owner, "'everyone'")
    path = rendezvous.socket_of(name)
    stranger.does(f"globals().update(folder={str(path.parent)!r}, path={str(path)!r}, owner={owner.child.pid})")
    files = ("rename", "remove", "chmod", "page", "lock", "add", "memory", "descriptors", "kill")
    for number, what in enumerate(files):
        assert stranger.does(ATTEMPTS[what][0]) == ATTEMPTS[what][1], what
        goes_on(owner, number)
    assert stranger.does("code(lambda: npipe.listen(name, exclusive=False))") == 5
    assert stranger.does("error(lambda: os.unlink(path))") == "EACCES"
    assert stranger.does("error(lambda: os.rename(path, path + 'x'))") == "EACCES"
    assert stranger.does("[pipe.name for pipe in npipe.list_pipes()]") == [name]
    # The requests that owners make of each other are not for him: refused like any that is unknown.
    for kind in (rendezvous.NUDGE, rendezvous.STAY, 99, 0xFFFFFFFF):
        assert stranger.does(f"ask(path, {kind})") == 1
    assert stranger.does(f"ask(path, {rendezvous.DESCRIBE})") == 5  # who is connected is the owner's and root's to know
    assert stranger.does("code(lambda: npipe.connect(name))") == 5  # his own check: it is not his, nor root's
    assert stranger.does("code(lambda: npipe.connect(name, verify_owner=False))") == 0
    has_left(owner)
    goes_on(owner, 100)
    owner.does("[item.close() for item in kept.values()]")
    assert list(shared_root.iterdir()) == []


def test_a_stranger_that_waits_for_a_server_is_let_in_however_the_server_comes(
    person: Callable[..., Person], name: str
) -> None:
    """A folder is its owner's alone until he has opened it, and in that moment the stranger is told of it."""
    owner, stranger = person(OWNER), person(STRANGER)
    for number in range(30):
        owner.does(f"os.umask({(0o77, 0o22)[number % 2]}) and None")
        stranger.child.say(
            f"npipe.connect(name + '-{number}', timeout=20, verify_owner=False, wait_for_server=True).info.name"
        )
        until(lambda: watches(stranger.child.pid) == 1)
        owner.does(f"keep({number}, npipe.listen(name + '-{number}', security='everyone'))")
        assert stranger.child.line() == repr(f"{name}-{number}")


def test_a_stranger_that_waits_for_a_server_which_is_not_for_it_is_refused(
    person: Callable[..., Person], name: str
) -> None:
    owner, stranger = person(OWNER), person(STRANGER)
    stranger.child.say("code(lambda: npipe.connect(name, timeout=20, verify_owner=False, wait_for_server=True))")
    until(lambda: watches(stranger.child.pid) == 1)
    serves(owner, "'owner'")
    assert stranger.child.line() == "5"


def test_thousands_of_refused_connects_disturb_nobody_and_leave_nothing(
    person: Callable[..., Person], name: str, figure: Callable[[str], None]
) -> None:
    owner, stranger = person(OWNER), person(STRANGER)
    serves(owner, f"npipe.Security(users=({THIRD},))")
    path = rendezvous.socket_of(name)
    goes_on(owner, -1)
    until(lambda: f.holding(owner.child.pid).mappings == 2)
    before = f.holding(owner.child.pid)
    count = f.rounds(2000, 50_000)
    began = time.monotonic()
    stranger.child.say(f"{{ask({str(path)!r}, kind) for _ in range({count // 4}) for kind in (1, 2, 3, 1)}}")
    turns = 0
    while not _has_line(stranger.child):
        goes_on(owner, turns)
        turns += 1
    assert stranger.child.line() == "{5}"
    figure(
        f"{count} refused requests in {time.monotonic() - began:.1f} s, {turns} turns of the owner's own beside them"
    )
    assert turns > 0
    goes_on(owner, turns)
    until(lambda: f.holding(owner.child.pid) == before)  # segments are kept for a moment


def _has_line(child: Child) -> bool:
    assert child.process.stdout is not None
    return bool(select.select([child.process.stdout], [], [], 0)[0])


# ---- Rules


HELD_OPEN = "rendezvous.request(rendezvous.OPEN, flags=rendezvous.HOLD)"


def test_one_strangers_held_requests_leave_descriptors_and_room_for_another(
    person: Callable[..., Person], name: str
) -> None:
    owner, stranger, third = person(OWNER), person(STRANGER), person(THIRD)
    owner.does("resource.setrlimit(7, (256, 256))")  # RLIMIT_NOFILE
    for number in range(5):
        options = "security='everyone', max_instances=1"
        owner.does(f"keep('listener{number}', npipe.listen(name + '-{number}', {options}))")
        owner.does(f"keep('client{number}', npipe.connect(name + '-{number}'))")
        owner.does(f"keep('server{number}', kept['listener{number}'].accept(20))")
    stranger.does("keep('paths', [str(p) for p in pathlib.Path(root).glob('*/s*')])")
    assert stranger.does("len(kept['paths'])") == 5
    before = owner.does("len(os.listdir('/proc/self/fd'))")
    stranger.does("keep('crowd', [dial(kept['paths'][i % 5]) for i in range(300)])")
    # Of those who said nothing the owner has dropped some, and may be at it still.
    stranger.does(f"[error(lambda made=made: made.send({HELD_OPEN})) for made in kept['crowd']] and None")
    until(lambda: owner.does("len(os.listdir('/proc/self/fd'))") - before <= 256 / 8 + 2)
    waiting = Background(lambda: third.does("code(lambda: npipe.connect(name + '-2', verify_owner=False, timeout=20))"))
    assert owner.does("code(lambda: npipe.wait(name + '-2', timeout=0.5))") == 121  # a request of the owner is held too
    stranger.does("[made.close() for made in kept['crowd']] and None")
    owner.does("(kept['client2'].close(), kept['server2'].close())")
    assert waiting.result(20) == 0


def test_the_rule_of_a_group_by_name(person: Callable[..., Person], name: str) -> None:
    group = grp.getgrgid(1)
    with npipe.listen(name, security=f"group:{group.gr_name}") as listener:
        for made, allowed in (
            (person(STRANGER), False),
            (person(STRANGER, gid=1), True),
            (person(STRANGER, groups=f"{THIRD},1"), True),
            (person(STRANGER, groups=f"{THIRD}"), False),
        ):
            assert made.does("code(lambda: npipe.connect(name))") == (0 if allowed else 5)
            came_and_went(listener)
            assert made.does("code(lambda: npipe.wait(name, timeout=5))") == (0 if allowed else 5)
            assert made.does("len(npipe.list_pipes())") == (1 if allowed else 0)
    with pytest.raises(npipe.PipeError):
        npipe.listen(name, security="group:no such group")


def test_a_process_that_has_given_up_its_rights_is_judged_by_what_it_is_now(
    person: Callable[..., Person], name: str
) -> None:
    someone = person(0)
    with npipe.listen(name) as listener:
        assert someone.does("code(lambda: npipe.connect(name))") == 0
        came_and_went(listener)
        someone.does(f"(os.setgid({STRANGER}), os.setuid({STRANGER}))")
        assert someone.does("code(lambda: npipe.connect(name))") == 5


@pytest.mark.parametrize(
    ("rule", "may", "may_not"), [("read=False", "write", "read"), ("write=False", "read", "write")]
)
def test_clients_that_may_only_read_or_only_write(
    person: Callable[..., Person], name: str, rule: str, may: str, may_not: str
) -> None:
    owner, stranger = person(OWNER), person(STRANGER)
    owner.does(f"keep('listener', npipe.listen(name, security=npipe.Security(everyone=True, {rule})))")
    for access in (may_not, "duplex"):
        assert stranger.does(f"code(lambda: npipe.connect(name, access={access!r}, verify_owner=False))") == 5
    stranger.does(f"keep('pipe', npipe.connect(name, access={may!r}, verify_owner=False))")
    owner.does("keep('pipe', kept['listener'].accept(20))")
    if may == "write":
        stranger.does("kept['pipe'].send(b'in')")
        assert owner.does("kept['pipe'].recv(timeout=20)") == b"in"
        assert stranger.does("code(lambda: kept['pipe'].recv(timeout=1))") == 5
    else:
        owner.does("kept['pipe'].send(b'out')")
        assert stranger.does("kept['pipe'].recv(timeout=20)") == b"out"
        assert stranger.does("code(lambda: kept['pipe'].send(b'x'))") == 5
    assert stranger.does("code(lambda: kept['pipe'].transact(b'x', timeout=1))") == 5


FORGER = """
    def forge(data):
        # Write a message into the ring of the other direction by hand, as a program of one's own would.
        for line in open("/proc/self/maps"):
            if "memfd:npipe-link" in line:
                begin = int(line.split("-")[0], 16)
        with open("/proc/self/mem", "r+b", buffering=0) as memory:
            memory.seek(begin)
            inbound, = struct.unpack_from("<Q", memory.read(64), 16)
            memory.seek(begin + inbound)
            memory.write(bytes([len(data)]) + data)
            memory.seek(begin + 640)
            memory.write(struct.pack("<QQ", 1 + len(data), len(data)))
"""


def test_what_a_client_that_may_only_read_writes_into_the_segment_is_not_read(
    person: Callable[..., Person], name: str
) -> None:
    owner, stranger = person(OWNER), person(STRANGER)
    stranger.does(f"exec({textwrap.dedent(FORGER)!r}, globals())")
    for allowed, rule in ((True, ""), (False, ", write=False")):
        owner.does(f"keep('listener', npipe.listen(name, security=npipe.Security(everyone=True{rule})))")
        access = "duplex" if allowed else "read"
        stranger.does(f"keep('pipe', npipe.connect(name, access={access!r}, verify_owner=False))")
        owner.does("keep('pipe', kept['listener'].accept(20))")
        stranger.does("forge(b'forged')")
        if allowed:  # the forger knows his trade
            assert owner.does("kept['pipe'].recv(timeout=20)") == b"forged"
        else:
            assert owner.does("kept['pipe'].peek().available") == 0
            assert owner.does("code(lambda: kept['pipe'].recv(timeout=0.2))") == 121
            owner.does("kept['pipe'].send(b'out')")
            assert stranger.does("kept['pipe'].recv(timeout=20)") == b"out"
            stranger.does("kept['pipe'].close()")
            assert owner.does("code(lambda: kept['pipe'].recv(timeout=20))") == 109
        owner.does("(kept.pop('pipe').close(), kept.pop('listener').close())")
        stranger.does("kept.pop('pipe').close()")


# ---- Squatters


def test_a_name_that_was_squatted_before_our_server_starts(
    person: Callable[..., Person], name: str, shared_root: Path
) -> None:
    squatter, owner, client = person(STRANGER), person(OWNER), person(OWNER)
    squatter.does("keep('listener', npipe.listen(name, security='everyone'))")
    for exclusive in (True, False):
        assert owner.does(f"code(lambda: npipe.listen(name, exclusive={exclusive}))") == 5
    for call in (
        "npipe.connect(name)",
        "npipe.call(name, b'secret')",
        "npipe.connect(name, mode='byte')",
        "npipe.connect(name, access='read', timeout=1)",
    ):
        assert client.does(f"code(lambda: {call})") == 5, call
    with pytest.raises(npipe.PipeAccessError):  # root trusts nobody else either
        npipe.connect(name)
    assert squatter.does("code(lambda: kept['listener'].accept(0))") == 121  # nobody has come: not a byte was sent
    squatter.does("kept['listener'].close()")
    assert owner.does("code(lambda: npipe.listen(name))") == 0
    assert list(shared_root.iterdir()) == []


@pytest.mark.parametrize(
    "trap",
    [
        "os.mkdir(folder)",
        "os.mkdir(folder, 0o777)",
        "os.mkfifo(folder)",
        "os.symlink('/nowhere', folder)",
        "os.symlink(folder, folder)",
        "os.close(os.open(folder, os.O_CREAT))",
        "(os.mkdir(folder), os.mkfifo(folder + '/s0123456789abcdef'))",
        "(os.mkdir(folder), os.mkfifo(folder + '/pipe'), os.mkfifo(folder + '/lock'), os.chmod(folder, 0o755))",
        "(os.mkdir(folder), os.symlink('/dev/null', folder + '/s0123456789abcdef'), os.chmod(folder, 0o755))",
        "(os.mkdir(folder), os.mknod(folder + '/s0123456789abcdef'), os.chmod(folder, 0o755))",
    ],
)
def test_traps_in_place_of_a_pipes_folder(person: Callable[..., Person], name: str, trap: str) -> None:
    squatter, owner = person(STRANGER), person(OWNER)
    squatter.does(f"globals().update(folder={str(rendezvous.folder_of(name))!r})")
    squatter.does(f"({trap}, None)[1]")
    assert owner.does("code(lambda: npipe.listen(name))") == 5
    assert owner.does("code(lambda: npipe.connect(name, timeout=5))") in (2, 5)
    assert owner.does("code(lambda: npipe.wait(name, timeout=5))") in (2, 5)
    assert owner.does("len(npipe.list_pipes())") == 0
    owner.does("keep('other', npipe.listen(name + '-other'))")
    assert owner.does("code(lambda: npipe.connect(name + '-other'))") == 0


@pytest.mark.parametrize("remembered", [False, True])
def test_a_strangers_folder_does_not_lead_to_another_pipe_of_ones_own(
    person: Callable[..., Person], name: str, remembered: bool
) -> None:
    """A link to the socket of another server of the same user: the right owner, but not the pipe that was named."""
    squatter, owner, client = person(STRANGER), person(OWNER), person(OWNER)
    owner.does("keep('other', npipe.listen(name + '-other', security='everyone'))")
    target = rendezvous.socket_of(name + "-other")
    place = rendezvous.folder_of(name) / target.name
    if remembered:  # the client knows the way to the pipe, which then goes, and somebody lays that way anew
        owner.does("keep('listener', npipe.listen(name, security='everyone'))")
        known = rendezvous.socket_of(name)
        place = rendezvous.folder_of(name) / known.name
        for _ in range(2):
            assert client.does("code(lambda: npipe.connect(name))") == 0
            has_left(owner)
        owner.does("kept.pop('listener').close()")
    squatter.does(f"os.mkdir({str(place.parent)!r}, 0o755)")
    squatter.does(f"os.symlink({str(target)!r}, {str(place)!r})")
    for call in ("npipe.connect(name)", "npipe.call(name, b'secret', timeout=5)", "npipe.connect(name, timeout=0)"):
        assert client.does(f"code(lambda: {call})") in (2, 5), call
    assert client.does("code(lambda: npipe.connect(name + '-other'))") == 0


# ---- Other places


def test_a_shared_folder_in_run_is_found_without_being_told(child: Start, name: str) -> None:
    """/run/npipe with the sticky bit, as an administrator makes it, in a mount name space of its own."""
    _needs_unshare("--mount")
    script = (
        textwrap.dedent(
            """
            import os, subprocess, sys
            os.environ.pop("NPIPE_ROOT")
            subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=755", "none", "/run"], check=True)
            os.mkdir("/run/npipe")
            os.chmod("/run/npipe", 0o1777)
            import npipe
            from npipe.transports.local.place import root_folder
            assert root_folder() == "/run/npipe"
            def user(uid, script):
                return subprocess.Popen([sys.executable, "-c",
                    "import encodings.utf_16_le, os, sys, npipe, npipe.transports.local\\n"
                    "npipe.names.parse_name('x')\\n"
                    f"os.setgroups([]); os.setgid({uid}); os.setuid({uid})\\n" + script],
                    stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            stays = "; print('on', flush=True); sys.stdin.read()"
            first = user(1111, "l = npipe.listen('first', security='everyone')" + stays)
            second = user(2222, "l = npipe.listen('second')" + stays)
            assert first.stdout.readline() == second.stdout.readline() == "on\\n"
            third = user(3333, "print([p.name for p in npipe.list_pipes()])\\n"
                "for n in ('first', 'second'):\\n"
                "    try: npipe.connect(n, verify_owner=False); print('in')\\n"
                "    except npipe.PipeError as e: print(e.winerror)")
            print(third.communicate()[0].split("\\n"), flush=True)
            for one in (first, second):
                one.communicate("")
            print(os.listdir("/run/npipe"), flush=True)
            """
        ),
    )[0]
    done = _unshared("--mount", script)
    assert done.stdout.splitlines() == [str([str([r"\\.\pipe\first"]), "in", "5", ""]), "[]"], done.stderr


def test_a_root_that_is_bind_mounted_into_another_mount_name_space(
    shared_root: Path, name: str, tmp_path: Path
) -> None:
    _needs_unshare("--mount", "--pid", "--fork")
    there = tmp_path / "elsewhere"
    there.mkdir()
    script = textwrap.dedent(
        f"""
        import os, subprocess, sys
        subprocess.run(["mount", "--bind", {str(shared_root)!r}, {str(there)!r}], check=True)
        subprocess.run(["mount", "-t", "tmpfs", "none", {str(shared_root)!r}], check=True)  # now empty
        os.environ["NPIPE_ROOT"] = {str(there)!r}
        import npipe
        name = {name!r}
        print([pipe.name for pipe in npipe.list_pipes()] == [name], flush=True)
        with npipe.connect(name) as pipe:
            print(pipe.transact(b"across", timeout=20), flush=True)
            print(pipe.transact(bytes(1 << 20), timeout=20) == bytes(1 << 20), flush=True)
        with npipe.listen(name + "-inside") as listener:  # and the other way round
            print("listens", flush=True)
            with listener.accept(20) as pipe:
                pipe.send(pipe.recv(timeout=20))
                pipe.flush(timeout=20)
        dying = npipe.connect(name)
        dying.send(b"last words")
        os.kill(os.getpid(), 9)
        """
    )
    with npipe.listen(name, max_instances=2) as listener:
        process = subprocess.Popen(
            ["unshare", "--mount", "--pid", "--fork", sys.executable, "-c", script], stdout=subprocess.PIPE, text=True
        )
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "True\n"
            with listener.accept(20) as pipe:
                assert pipe.recv(timeout=20) == b"across"
                pipe.send(b"across")
                pipe.send(pipe.recv(timeout=20))
                assert process.stdout.readline() == "b'across'\n"
                assert process.stdout.readline() == "True\n"
            assert process.stdout.readline() == "listens\n"
            assert npipe.call(name + "-inside", b"inside", timeout=20) == b"inside"
            with listener.accept(20) as pipe:
                assert pipe.recv(timeout=20) == b"last words"
                with pytest.raises(npipe.PipeClosedError) as caught:
                    pipe.recv(timeout=20)
                assert caught.value.winerror == 109
        finally:
            process.kill()
            process.wait()
            process.stdout.close()  # type: ignore[union-attr]


def _unshared(*arguments: str) -> subprocess.CompletedProcess[str]:
    *options, script = arguments
    return subprocess.run(
        ["unshare", *options, sys.executable, "-c", script], capture_output=True, text=True, timeout=50, check=False
    )


def _needs_unshare(*options: str) -> None:
    done = subprocess.run(["unshare", *options, "true"], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"unshare {' '.join(options)} is not permitted here: {done.stderr.strip()}")


# ---- One client never sees another's traffic

SCAN = """
    def scan(marker):
        # Everything of the links that this process can see.
        found, inodes = 0, []
        for line in open("/proc/self/maps"):
            if "memfd:npipe-link" in line:
                begin, end = (int(part, 16) for part in line.split()[0].split("-"))
                with open("/proc/self/mem", "rb", buffering=0) as memory:
                    memory.seek(begin)
                    found += memory.read(end - begin).count(marker)
                inodes.append(line.split()[4])
        return found, sorted(set(inodes))
"""


def test_a_client_has_its_own_link_and_sees_nothing_of_the_others(person: Callable[..., Person], name: str) -> None:
    first, second = person(STRANGER), person(THIRD)
    for one in (first, second):
        one.does(f"exec({textwrap.dedent(SCAN)!r}, globals())")
    with npipe.listen(name, security="everyone") as listener:
        first.does("keep('pipe', npipe.connect(name))")
        with listener.accept(20) as server:
            second.does("keep('pipe', npipe.connect(name))")
            with listener.accept(20) as other:
                for number in range(20):
                    server.send(b"secret of the first" * 100)
                    first.does("kept['pipe'].send(b'secret of the first' * 100)")
                    assert server.recv(timeout=20) == b"secret of the first" * 100
                    if number % 2:
                        assert first.does("len(kept['pipe'].recv(timeout=20))") == 1900
                    other.send(b"of the second")
                    assert second.does("kept['pipe'].recv(timeout=20)") == b"of the second"
                found, mine = first.does("scan(b'secret of the first')")
                assert found > 0
                assert len(mine) == 1
                found, others = second.does("scan(b'secret of the first')")
                assert (found, len(others)) == (0, 1)
                assert mine != others


@pytest.mark.parametrize("how", ["close", "abort"])
def test_the_next_client_of_an_instance_sees_nothing_of_the_one_before(
    person: Callable[..., Person], name: str, how: str
) -> None:
    """Also at once, while segments are kept, and when the next one offers the first one's."""
    first, second = person(STRANGER), person(STRANGER)
    for one in (first, second):
        one.does(f"exec({textwrap.dedent(SCAN)!r}, globals())")
    with npipe.listen(name, security="everyone", max_instances=1) as listener:
        for number in range(f.rounds(30, 1000)):
            first.does(
                "[keep('pipe', npipe.connect(name, timeout=20)), kept['pipe'].send(b'secret of the first')] and 0"
            )
            with listener.accept(20) as server:
                waiting = blocked(lambda: listener.accept(20)) if number % 5 == 0 else None
                assert server.recv(timeout=20) == b"secret of the first"
                server.send(b"secret of the first, unread")
                theirs = first.does("scan(b'secret of the first')")[1]
                first.does(f"kept.pop('pipe').{how}()")
            second.does("keep('pipe', npipe.connect(name, timeout=20))")
            with waiting.result() if waiting else listener.accept(20):
                found, inodes = second.does("scan(b'secret of the first')")
                # Two, while its own last one is kept for its next connection.
                assert found == 0
                assert 1 <= len(inodes) <= 2
                assert not set(theirs) & set(inodes)
                second.does("kept.pop('pipe').close()")


def test_a_segment_that_another_process_had_is_not_given_for_its_token(
    person: Callable[..., Person], name: str
) -> None:
    first, thief = person(STRANGER), person(STRANGER)
    first.does(f"exec({textwrap.dedent(SCAN)!r}, globals())")
    token = (
        "[(memory.seek(int(line.split('-')[0], 16) + 72), struct.unpack('<Q', memory.read(8))[0])[1]"
        " for memory in [open('/proc/self/mem', 'rb', buffering=0)]"
        " for line in open('/proc/self/maps') if 'memfd:npipe-link' in line][0]"
    )
    with npipe.listen(name, security="everyone") as listener:
        path = rendezvous.socket_of(name)
        for _ in range(f.rounds(20, 500)):
            for _ in range(3):  # so often that it is kept
                first.does("keep('pipe', npipe.connect(name))")
                with listener.accept(20) as server:
                    stolen = first.does(token)
                    assert stolen
                    first.does("kept['pipe'].send(b'secret')")
                    assert server.recv(timeout=20) == b"secret"
                    first.does("kept.pop('pipe').close()")
            # An answer that uses it again has no descriptor and "reused" set; for the thief there is a new segment.
            offered = rendezvous.request(flags=rendezvous.KEEP, offer=stolen)
            reused, descriptors = thief.does(
                f"(lambda made: (made.send({offered!r}),"
                " (lambda got: (rendezvous.read_answer(got[0]).last, len(got[1]), [os.close(fd) for fd in got[1]],"
                f" made.close())[:2])(socket.recv_fds(made, 100, 4)))[1])(dial({str(path)!r}))"
            )
            assert (reused, descriptors) == (0, 1)
            came_and_went(listener)


def test_silent_visitors_do_not_hold_up_a_server_with_busy_neighbours(name: str, figure: Callable[[str], None]) -> None:
    with f.busy_neighbours(), npipe.listen(name) as listener:
        path = rendezvous.socket_of(name)
        silent = [rendezvous.dial(path) for _ in range(200)]
        began = time.monotonic()
        with npipe.connect(name, timeout=30) as client, listener.accept(30) as server:
            client.send(b"x")
            assert server.recv(timeout=20) == b"x"
        took = time.monotonic() - began
        figure(f"served {took * 1000:.0f} ms after 200 connections that say nothing, beside 4 busy neighbours")
        assert took < 5
        for made in silent:
            made.close()
