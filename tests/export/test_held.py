"""Who waits for an instance: clients of other machines, and those of this one, of whom none keeps the others out."""

from __future__ import annotations

import contextlib
import select
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

import npipe
from npipe.peers import pack_remote
from tests import helpers as h
from tests import rendezvous
from tests.export.helpers import Request, Smbd
from tests.export.test_engine import FOR, PEER

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.conftest import Child

    Start = Callable[..., Child]

# Sixteenths of the owner's 320 descriptors: docs/protocol.md, "Bounds of an owner".
SIXTEENTH = 20
REMOTE, LOCAL, ALL = 3 * SIXTEENTH, 7 * SIXTEENTH, 8 * SIXTEENTH

OWNER = """
import resource, sys, npipe
resource.setrlimit(resource.RLIMIT_NOFILE, (320, 320))
with npipe.listen(sys.argv[1], max_instances=1) as listener:
    print("listening", flush=True)
    pipe = listener.accept(20)
    print("busy", flush=True)
    input()
    pipe.close()
    while True:
        with listener.accept(20) as pipe:
            who = pipe.peer.user if pipe.peer.origin == "samba" else "local"
            try:
                word = pipe.recv(timeout=20).decode()
            except npipe.PipeClosedError:
                continue
            print(who, word, flush=True)
"""


class Crowd:
    """Requests for instances of a busy pipe, said by hand."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._stack = contextlib.ExitStack()
        self.held: list[socket.socket] = []

    def asks(self, remote: bytes | None) -> int:
        """Ask to be held; the answer's code."""
        made = self._stack.enter_context(rendezvous.dial(self._name, h.DEADLINE))
        flags = rendezvous.HOLD | (FOR if remote is not None else 0)
        made.send(rendezvous.request(flags=flags) + (remote or b""))
        code = rendezvous.code_of(made.recv(4096))
        if code == rendezvous.IO_PENDING:
            self.held.append(made)
        return code

    def all_ask(self, *remotes: bytes | None) -> list[int]:
        return [self.asks(remote) for remote in remotes]

    def turned_away(self) -> list[int]:
        """Which of those that were held, by their numbers, have been refused since."""
        found = []
        for number, made in enumerate(self.held):
            made.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                assert rendezvous.code_of(made.recv(4096)) == 1450
                found.append(number)
        return found

    def close(self) -> None:
        self._stack.close()


@pytest.fixture
def crowd(name: str, child: Start) -> Iterator[Crowd]:
    """A crowd at a pipe whose one instance is taken."""
    owner = child(OWNER, name)
    assert owner.line() == "listening"
    with npipe.connect(name, timeout=10):
        assert owner.line() == "busy"
        made = Crowd(name)
        yield made
        made.close()


def user(number: int, address: str = "10.0.0.1") -> bytes:
    """A client of another machine, as a gateway says it."""
    peer = replace(PEER, user=f"user{number}", local_user=f"user{number}", host=address, address=address)
    return pack_remote(peer, uid=1000 + number, gid=1000, groups=(), most_message=65535)


HELD, FULL = rendezvous.IO_PENDING, 1450

REMOTE_CROWDS: dict[str, list[bytes]] = {
    "one user": [user(1)] * 2 * REMOTE,
    "one user of many addresses": [user(1, f"10.0.0.{number}") for number in range(2 * REMOTE)],
    "many users": [user(number) for number in range(2 * REMOTE)],
}


@pytest.mark.parametrize("who", REMOTE_CROWDS)
def test_a_remote_crowd_leaves_the_owner_s_own_clients_their_places(crowd: Crowd, who: str) -> None:
    answers = crowd.all_ask(*REMOTE_CROWDS[who])
    assert answers == [HELD] * REMOTE + [FULL] * REMOTE
    assert crowd.all_ask(*[None] * (ALL - REMOTE)) == [HELD] * (ALL - REMOTE)
    assert crowd.asks(None) == FULL
    assert crowd.turned_away() == []


def test_the_owner_s_own_crowd_leaves_a_place_for_other_machines(crowd: Crowd) -> None:
    assert crowd.all_ask(*[None] * (LOCAL + 1)) == [HELD] * LOCAL + [FULL]
    assert crowd.all_ask(*[user(number) for number in range(SIXTEENTH + 1)]) == [HELD] * SIXTEENTH + [FULL]


def test_of_remote_users_the_one_who_has_most_gives_way(crowd: Crowd) -> None:
    assert crowd.all_ask(*[user(1)] * (REMOTE + 1)) == [HELD] * REMOTE + [FULL]
    half = REMOTE // 2
    assert crowd.all_ask(*[user(2)] * (half + 1)) == [HELD] * half + [FULL]
    assert crowd.turned_away() == list(range(half, REMOTE))  # the youngest, and none of the other's


def test_many_addresses_do_not_make_many_users(crowd: Crowd) -> None:
    assert crowd.all_ask(*[user(1, f"10.0.0.{n}") for n in range(REMOTE)]) == [HELD] * REMOTE
    assert crowd.all_ask(*[user(2)] * (REMOTE // 2)) == [HELD] * (REMOTE // 2)
    assert len(crowd.turned_away()) == REMOTE // 2


def test_of_one_user_s_addresses_the_one_that_has_most_gives_way(crowd: Crowd) -> None:
    assert crowd.all_ask(*[user(1)] * (REMOTE - 1), user(2)) == [HELD] * REMOTE
    assert crowd.asks(user(1)) == FULL
    assert crowd.all_ask(user(1, "10.0.0.2"), user(1, "10.0.0.3")) == [HELD] * 2
    assert crowd.turned_away() == [REMOTE - 3, REMOTE - 2]


def test_a_user_who_has_no_more_than_another_makes_room_at_its_own_addresses(crowd: Crowd) -> None:
    half = REMOTE // 2
    assert crowd.all_ask(*[user(1)] * half, *[user(2)] * half) == [HELD] * REMOTE
    assert crowd.asks(user(1, "10.0.0.2")) == HELD
    assert crowd.turned_away() == [half - 1]


def test_a_place_comes_back_when_who_has_it_goes(crowd: Crowd, name: str) -> None:
    for _ in range(3):
        assert crowd.all_ask(*[user(1)] * REMOTE) == [HELD] * REMOTE
        crowd.close()
        h.until(lambda: h.requests_held(name) == 0)


@pytest.mark.parametrize("users", [1, 40])
def test_local_clients_get_in_while_a_crowd_of_other_machines_waits(
    name: str, samba_dir: Path, child: Start, caplog: pytest.LogCaptureFixture, users: int
) -> None:
    """The gateway's process may have more descriptors than the owner, so that its own bound is no help."""
    owner = child(OWNER, name)
    assert owner.line() == "listening"
    short = name.removeprefix("\\\\.\\pipe\\")
    with contextlib.ExitStack() as stack, npipe.export(name, allow="authenticated"):
        first = stack.enter_context(npipe.connect(name, timeout=10))
        assert owner.line() == "busy"
        h.until((samba_dir / "np" / short).is_socket)
        remotes: list[Smbd] = []
        for number in range(2 * REMOTE):
            request = Request(account=f"user{number % users}", uid=1000 + number % users)
            remotes.append(stack.enter_context(Smbd(samba_dir, short, request.packed())))
            assert remotes[-1].let_in
            with contextlib.suppress(BrokenPipeError):  # it is one too many, and turned away already
                remotes[-1].send(b"remote")
        h.until(lambda: sum(map(_hung_up_on, remotes)) == REMOTE)
        h.until(lambda: h.requests_held(name) == REMOTE)
        locals_: list[Any] = [h.started(_says, name, f"local {number}") for number in range(20)]
        h.until(lambda: h.requests_held(name) == REMOTE + 20)
        owner.say("")
        first.close()
        heard = [owner.line() for _ in range(REMOTE + 20)]
        assert sorted(line for line in heard if line.startswith("local")) == sorted(
            f"local local {number}" for number in range(20)
        )
        assert sum(line.startswith("user") and line.endswith(" remote") for line in heard) == REMOTE
        for background in locals_:
            background.result()
    told = [record.getMessage() for record in caplog.records if "is turned away" in record.getMessage()]
    assert len(told) == 1  # for all of them
    assert "the server cannot hold any more requests" in told[0]


def _hung_up_on(remote: Smbd) -> bool:
    poll = select.poll()
    poll.register(remote.socket, select.POLLRDHUP)
    return bool(poll.poll(0))


def _says(name: str, word: str) -> None:
    with npipe.connect(name, timeout=20) as pipe:
        pipe.send(word.encode())
        pipe.flush()
