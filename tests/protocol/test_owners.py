"""Owners of one pipe, the examples' and npipe's, and clients that look for them."""

from __future__ import annotations

import fcntl
import os
import socket
import struct
from typing import TYPE_CHECKING

import link
import pytest

from tests import rendezvous
from tests.helpers import until
from tests.protocol.conftest import PAIRS

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.protocol.conftest import End

EXAMPLE = "example by futex"
OWNERS = [(EXAMPLE, "npipe"), ("npipe", EXAMPLE), (EXAMPLE, EXAMPLE)]
CLIENTS = ["npipe", EXAMPLE]

pytestmark = pytest.mark.timeout(120)


def listen(owner: End, name: str, instances: int = 1, most: int = 255) -> None:
    owner("listen", name, "message", (65536, 65536), instances, most)


def held_there(name: str) -> int:
    return sum(place.waiters for place in rendezvous.places_of(name))


@pytest.mark.parametrize("second", CLIENTS)
@pytest.mark.parametrize("first", OWNERS)
def test_a_client_finds_the_owner_that_listens(
    end: Callable[[str], End], pipe_name: str, first: tuple[str, str], second: str
) -> None:
    owners = [end(form) for form in first]
    for owner in owners:
        listen(owner, pipe_name)
    clients = [end(second) for _ in owners]
    for client in clients:
        client("connect", pipe_name)  # with a deadline: one owner may be silent for its share of the time
    for owner in owners:
        owner("accept")
    asked = end(second)
    asked.fails(231, "connect", pipe_name, None)
    asked.fails(121, "wait", pipe_name, None)  # the pipe's default time-out


@pytest.mark.parametrize("how", ["connect", "wait"])
@pytest.mark.parametrize("client_form", CLIENTS)
@pytest.mark.parametrize("forms", OWNERS)
def test_a_held_request_hears_of_another_owner_that_listens(
    end: Callable[[str], End], pipe_name: str, forms: tuple[str, str], client_form: str, how: str
) -> None:
    busy, other = (end(form) for form in forms)
    listen(busy, pipe_name)
    end(EXAMPLE)("connect", pipe_name)
    client = end(client_form)
    client.begin("hold" if how == "connect" and client_form == "npipe" else how, pipe_name, 30)
    until(lambda: held_there(pipe_name) == 1, 30)
    listen(other, pipe_name)
    client.answer()
    if how == "connect":
        other("accept")


@pytest.mark.parametrize("dies", [True, False])
@pytest.mark.parametrize("how", ["connect", "wait"])
@pytest.mark.parametrize("client_form", CLIENTS)
@pytest.mark.parametrize("forms", OWNERS)
def test_a_held_request_looks_for_another_owner_when_its_own_goes(
    end: Callable[[str], End], pipe_name: str, forms: tuple[str, str], client_form: str, how: str, dies: bool
) -> None:
    owners = [end(form) for form in forms]
    for owner in owners:
        listen(owner, pipe_name)
    users = [end(EXAMPLE) for _ in owners]
    for user in users:
        user("connect", pipe_name)
    for owner in owners:
        owner("accept")
    client = end(client_form)
    client.begin("hold" if how == "connect" and client_form == "npipe" else how, pipe_name, 30)
    until(lambda: held_there(pipe_name) == 1, 30)
    places = {place.pid: place.waiters for place in rendezvous.places_of(pipe_name) if place.number}
    going, staying = sorted(owners, key=lambda owner: -places[owner.pid])
    if dies:
        going.kill()
    else:
        going("close" if going.form == "npipe" else "stop")  # of its one instance, which is connected
    until(lambda: any(place.waiters and place.pid == staying.pid for place in rendezvous.places_of(pipe_name)), 30)
    if staying.form == "npipe":
        listen(staying, pipe_name)
    else:
        staying("close")  # then its instance listens again
    client.answer()


@pytest.mark.parametrize("client_form", CLIENTS)
@pytest.mark.parametrize("forms", OWNERS)
@pytest.mark.parametrize("dies", [False, True])
def test_the_last_owner_tells_whom_it_holds_that_the_pipe_has_gone(
    end: Callable[[str], End], pipe_name: str, forms: tuple[str, str], client_form: str, dies: bool
) -> None:
    going, returning = (end(form) for form in forms)
    listen(going, pipe_name)
    end(EXAMPLE)("connect", pipe_name)
    going("accept")
    client = end(client_form)
    client.begin("hold" if client_form == "npipe" else "connect", pipe_name, 30)
    until(lambda: held_there(pipe_name) == 1, 30)
    if dies:
        going.kill()
    else:
        going("close")
        if going.form != "npipe":
            going("stop")
    if dies or going.form == "npipe":
        client.answer_fails(2)
    else:
        client.answer()  # its instance listened again before it went
    listen(returning, pipe_name)  # in the place of the one that has gone
    end(client_form)("connect", pipe_name)


@pytest.mark.parametrize("forms", OWNERS)
def test_owners_keep_to_the_limit_that_the_first_one_set(
    end: Callable[[str], End], pipe_name: str, forms: tuple[str, str]
) -> None:
    first, second = (end(form) for form in forms)
    listen(first, pipe_name, instances=2, most=2)
    open_then = []
    for _ in range(2):
        second.fails(231, "listen", pipe_name, "message", (65536, 65536), 1, 2)
        open_then.append(second("descriptors"))
    assert open_then[0] == open_then[1]
    first.kill()  # without a word
    listen(second, pipe_name, instances=1, most=2)
    client = end(EXAMPLE)
    assert client("query", pipe_name) == [4, 3, 2, 1, second.pid, pipe_name]


@pytest.mark.parametrize(("server_form", "client_form"), PAIRS)
@pytest.mark.parametrize(
    "text",
    [
        "x" * 191 + "-é", "ab" * 60, "é" * 100, "a" + "é" * 100, "aa" + "é" * 100, "aaa" + "é" * 100,
        "a" * 99 + "é" * 60, "a" * 98 + "é" * 60, "a" * 97 + "é" * 60, ".hidden", "straße ǆ ŉ ÿ µ ᾳ 𐐨", "a\\b c", "~",
    ],
)  # fmt: skip
def test_both_find_pipes_of_all_names(
    end: Callable[[str], End],
    server_form: str,
    client_form: str,
    text: str,
    monkeypatch: pytest.MonkeyPatch,
    root: Path,
) -> None:
    root.mkdir(mode=0o700)
    deep = root / ("deep-" + "x" * 100) / ("er-" + "y" * 100)
    deep.mkdir(parents=True)
    deep.chmod(0o700)
    monkeypatch.setenv("NPIPE_ROOT", str(deep))
    server, client = end(server_form), end(client_form)
    listen(server, text)
    client("connect", text.swapcase() if text.isascii() else text)
    server("accept")
    client("send", 1, 100)
    server("receive")
    client("close")
    server("close")
    server("stop")
    until(lambda: not list(deep.iterdir()), 30)  # and whoever goes last leaves nothing behind


@pytest.mark.parametrize("form", [EXAMPLE, "npipe"])
def test_a_client_looks_whose_the_pipe_is_and_what_its_owner_sends(
    end: Callable[[str], End], pipe_name: str, root: Path, form: str
) -> None:
    client = end(form)
    how = "hold" if form == "npipe" else "connect"  # with a deadline: this process may be slow to answer
    with rendezvous.own(pipe_name) as owner:
        for code in (65537, 65538):
            client.begin(how, pipe_name)
            owner.answer(rendezvous.answer(code))
            client.answer_fails(13)
        for message in (b"", b"short", rendezvous.answer(version=9), rendezvous.answer(magic=1)):
            client.begin(how, pipe_name)
            owner.answer(message)
            for _ in range(2 if not message else 0):  # it looks again, three times in all
                owner.answer(message)
            client.answer_fails({b"": 2, rendezvous.answer(version=9): 1306}.get(message, 13))
        for size, seals in ((0, 0), (4096, 0), (528384, 0), (528384, 2 | 4 | 8), (528384, 2 | 4), (100, 2 | 4)):
            segment = os.memfd_create("x", os.MFD_ALLOW_SEALING)
            os.ftruncate(segment, size)
            if seals:
                fcntl.fcntl(segment, fcntl.F_ADD_SEALS, seals)
            client.begin(how, pipe_name)
            owner.answer(rendezvous.answer(), [segment])
            os.close(segment)
            client.answer_fails(13)
    (root / "LINK").symlink_to(rendezvous.folder_of(pipe_name))
    client.fails(5, how, "link")
    root.chmod(0o777)
    client.fails(5, how, pipe_name)


@pytest.mark.parametrize("form", [EXAMPLE, "npipe"])
def test_a_client_takes_no_segment_of_which_anything_is_wrong(
    end: Callable[[str], End], pipe_name: str, form: str
) -> None:
    client = end(form)
    how = "hold" if form == "npipe" else "connect"  # with a deadline: this process may be slow to answer
    changes = [
        (0, "I", 1), (4, "I", 1), (4, "I", 3), (8, "Q", 4096), (16, "Q", 8192), (24, "Q", 4096), (32, "Q", 131072),
        (40, "Q", 0), (48, "I", 1 << 20), (52, "I", 20_000), (56, "I", 1), (60, "I", 0), (60, "I", 4),
    ]  # fmt: skip
    with rendezvous.own(pipe_name) as owner:
        for change in [*changes, None]:
            segment = link.create_segment(link.MESSAGE, link.DUPLEX, (1000, 1000), 0)
            if change:
                place, form_of_word, wrong = change
                os.pwrite(segment, struct.pack("<" + form_of_word, wrong), place)
            client.begin(how, pipe_name)
            owner.answer(rendezvous.answer(), [segment])
            os.close(segment)
            if change:
                client.answer_fails(13)
            else:
                client.answer()


@pytest.mark.parametrize("form", [EXAMPLE, "npipe"])
def test_an_owner_takes_no_name_that_is_somebody_elses(end: Callable[[str], End], root: Path, form: str) -> None:
    owner = end(form)
    root.mkdir(mode=0o700)
    (root / "elsewhere").mkdir(mode=0o700)
    (root / "LINK").symlink_to(root / "elsewhere")
    (root / "FILE").touch()
    (root / "OPEN").mkdir()
    (root / "OPEN").chmod(0o777)
    open_then = []
    for _ in range(2):
        for name in ("link", "file", "open"):
            owner.fails(5, "listen", name, "message", (65536, 65536), 1, 255)
        open_then.append(owner("descriptors"))
    assert open_then[0] == open_then[1]


def test_an_owner_answers_what_the_page_says(end: Callable[[str], End], name: str, pipe_name: str) -> None:
    """The example and npipe say the same, to the last byte that is not a process' own."""
    said = []
    for form in (EXAMPLE, "npipe"):
        owner = end(form)
        listen(owner, pipe_name, most=1)
        answers: list[object] = []
        for request in (
            rendezvous.request(rendezvous.QUERY), rendezvous.request(rendezvous.WAIT), rendezvous.request(99),
            rendezvous.request(version=9), rendezvous.request(magic=9), b"NPPR", rendezvous.request() + b"more",
            rendezvous.request()[:31], rendezvous.request(rendezvous.NUDGE), b"x" * 70_000,
        ):  # fmt: skip
            with rendezvous.dial(name) as made:
                made.send(request)
                data = made.recv(2000)
                answer = rendezvous.read_answer(data) if data else None
                answers.append(answer and (answer.code, answer.type, answer.direction, answer.instances, data[48:]))
        with rendezvous.dial(name) as made:
            made.send(rendezvous.request())
            data, descriptors, _, _ = socket.recv_fds(made, 2000, 4)
            assert len(descriptors) == 1
            os.close(descriptors[0])
            answers.append(rendezvous.code_of(data))
        said.append(answers)
        owner.kill()
    assert said[0] == said[1]
    codes = [answer[0] if isinstance(answer, tuple) else answer for answer in said[0]]
    assert codes == [0, 0, 1, 1306, None, None, 1306, 1306, None, 1306, 0]
