"""Two machines, as far as two network namespaces are that: addresses of their own, and a link that can be cut."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

import npipe
from tests import helpers as h
from tests.conftest import Child
from tests.samba.clients import PASSWORD

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from npipe.samba import PrivateSmbd

_NUMBER = os.getpid() % 60_000
NAMESPACE = f"npipe-test-{_NUMBER}"
HERE, THERE = f"npa{_NUMBER}", f"npb{_NUMBER}"


class Net(NamedTuple):
    """The addresses of the server's side and of the client's, which has a namespace of its own."""

    host: str
    client: str
    network: str


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, timeout=20)


@pytest.fixture(scope="module")
def _net() -> Iterator[Net]:
    if os.geteuid() != 0 or shutil.which("ip") is None:
        pytest.skip("only root makes network namespaces, with iproute2's ip")
    try:
        _ip("netns", "add", NAMESPACE)
    except subprocess.CalledProcessError as error:
        pytest.skip(f"no network namespace can be made here: {error.stderr.decode().strip()}")
    third = 64 + _NUMBER % 64  # of what is for tests of networks alone (RFC 2544)
    prefix = f"198.18.{third}"
    try:
        _ip("link", "add", HERE, "type", "veth", "peer", "name", THERE, "netns", NAMESPACE)
        _ip("address", "add", f"{prefix}.1/24", "dev", HERE)
        _ip("link", "set", HERE, "up")
        _ip("-n", NAMESPACE, "address", "add", f"{prefix}.123/24", "dev", THERE)
        _ip("-n", NAMESPACE, "link", "set", THERE, "up")
        yield Net(f"{prefix}.1", f"{prefix}.123", f"{prefix}.0/24")
    finally:
        subprocess.run(["ip", "netns", "delete", NAMESPACE], check=False, capture_output=True, timeout=20)
        subprocess.run(["ip", "link", "delete", HERE], check=False, capture_output=True, timeout=20)


@pytest.fixture
def net(_net: Net) -> Iterator[Net]:
    """Two sides, with the link between them up."""
    yield _net
    _ip("link", "set", HERE, "up")
    _ip("-n", NAMESPACE, "link", "set", THERE, "up")


@pytest.fixture
def elsewhere() -> Iterator[Callable[..., Child]]:
    """A script on the client's side: elsewhere(script, *arguments)."""
    children: list[Child] = []

    def start(script: str, *arguments: str) -> Child:
        # The interpreter of the tests, in the other namespace.
        command = ["ip", "netns", "exec", NAMESPACE, sys.executable]
        code = f"import os, sys; os.execvp('ip', [*{command!r}, *sys.argv[1:]])"
        made = Child(code, "-c", PRELUDE + script, *arguments, env={"NPIPE_REMOTE_PASSWORD": PASSWORD})
        children.append(made)
        return made

    yield start
    for child in children:
        child.end()


PRELUDE = r"""
import os, sys, time, npipe
host, port, name = sys.argv[1], int(sys.argv[2]), sys.argv[3]
path = rf"\\{host}\pipe\{name}"
remote = npipe.Remote(username="alice", password=os.environ["NPIPE_REMOTE_PASSWORD"], port=port, auth="ntlm")
def code(call):
    began = time.monotonic()
    try:
        return repr(call()), round(time.monotonic() - began, 1)
    except npipe.PipeError as error:
        return type(error).__name__, error.winerror, round(time.monotonic() - began, 1)
"""


def test_the_server_knows_the_address_that_its_client_has(
    own_smbd: Callable[..., PrivateSmbd], net: Net, elsewhere: Callable[..., Child], short: str
) -> None:
    smbd = own_smbd(interfaces=(net.network,))
    with npipe.listen(short, remote="samba", allow="games") as listener:
        client = elsewhere(
            "print(npipe.call(path, b'hello', remote=remote, timeout=20).decode(), flush=True)",
            net.host,
            str(smbd.port),
            short,
        )
        with listener.accept(20) as pipe:
            assert (pipe.peer.host, pipe.peer.address) == (net.client, net.client)
            assert (pipe.peer.user, pipe.peer.kind, pipe.peer.origin) == ("games", "user", "samba")
            assert pipe.recv(timeout=20) == b"hello"
            pipe.send(b"answer")
            assert client.line() == "answer"
            with h.fails(109):
                pipe.recv(timeout=20)
        assert client.wait() == 0


def test_a_link_that_is_cut_ends_no_call_beyond_its_time_and_loses_nothing(
    own_smbd: Callable[..., PrivateSmbd], net: Net, elsewhere: Callable[..., Child], short: str
) -> None:
    smbd = own_smbd(interfaces=(net.network,))
    script = """
with npipe.connect(path, remote=remote, timeout=20) as pipe:
    pipe.send(b"before")
    print(pipe.recv(timeout=20), flush=True)
    input()
    print(code(lambda: pipe.recv(timeout=0.5)), flush=True)
    bob = npipe.Remote(username="bob", password="x", port=port)
    print(code(lambda: npipe.connect(path, remote=bob, timeout=0.5)), flush=True)
    input()
    print(pipe.recv(timeout=20), flush=True)
    print(pipe.transact(b"question", timeout=20), flush=True)
"""
    with npipe.listen(short, remote="samba", allow="games") as listener:
        client = elsewhere(script, net.host, str(smbd.port), short)
        with listener.accept(20) as pipe:
            assert pipe.recv(timeout=20) == b"before"
            pipe.send(b"one")
            assert client.line() == "b'one'"
            _ip("link", "set", HERE, "down")
            client.say("")
            assert client.line() == "('PipeTimeoutError', 121, 0.5)"
            assert client.line() == "('PipeTimeoutError', 121, 0.5)"
            pipe.send(b"while it was cut")
            _ip("link", "set", HERE, "up")
            client.say("")
            assert client.line(60) == "b'while it was cut'"
            assert pipe.recv(timeout=60) == b"question"
            pipe.send(b"answer")
            assert client.line(60) == "b'answer'"
            with h.fails(109):
                pipe.recv(timeout=20)
        assert client.wait() == 0


def _is_idle(port: int) -> bool:
    """Whether smbd's one connection has nothing under way, so that TCP only asks from time to time if it is there."""
    lines = [line.split() for line in Path("/proc/net/tcp").read_text("ascii").splitlines()[1:]]
    established = [line for line in lines if line[1].endswith(f":{port:04X}") and line[3] == "01"]
    return len(established) == 1 and established[0][5].startswith("02:")  # its timer is that of SO_KEEPALIVE


def test_a_machine_that_is_gone_ends_its_calls_and_the_server_goes_on(
    own_smbd: Callable[..., PrivateSmbd], net: Net, elsewhere: Callable[..., Child], short: str
) -> None:
    """Its process is killed behind a cut link, so that nothing of its end comes here: smbd is to find out."""
    smbd = own_smbd(
        interfaces=(net.network,),
        extra="[global]\nsocket options = TCP_NODELAY SO_KEEPALIVE TCP_KEEPIDLE=1 TCP_KEEPINTVL=1 TCP_KEEPCNT=2\n",
    )
    script = """
pipe = npipe.connect(path, remote=remote, timeout=20)
pipe.send(b"last")
print("sent", flush=True)
input()
"""
    with npipe.listen(short, remote="samba", allow="games") as listener:
        client = elsewhere(script, net.host, str(smbd.port), short)
        with listener.accept(20) as pipe:
            assert client.line() == "sent"
            h.until(lambda: _is_idle(smbd.port))  # what is not acknowledged is sent again instead, for minutes
            _ip("-n", NAMESPACE, "link", "set", THERE, "down")
            client.kill()
            assert pipe.recv(timeout=20) == b"last"
            with h.fails(109):
                pipe.recv(timeout=30)
            with npipe.connect(short) as local, listener.accept(20) as here:
                local.send(b"still")
                assert here.recv(timeout=20) == b"still"
