"""Two machines with networks of their own, as far as one can show them: network namespaces with a cable between."""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Self

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

_CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)

SIX = ("fd00::1", "fd00::2")
"""The two's, of IPv6."""

ADDRESSES = {"10.10.0.1": "10.10.0.2", "10.20.0.12": "10.20.0.2", "192.168.100.100": "192.168.100.2"}
"""The client machine's, of 9, 10 and 15 characters, and the server machine's that is reached from each."""


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == 0, f"{command}: {done.stderr}"


class Machine:
    """A network namespace. It goes with the process that holds it, whatever ends the test."""

    def __init__(self) -> None:
        # A pipe for its standard input, of which nobody else has the other end: cat ends with that.
        self._holder = subprocess.Popen(
            ["unshare", "--net", "sh", "-c", "echo && exec cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert self._holder.stdout is not None
        self._holder.stdout.readline()  # it is there now, or was refused
        self.pid: int = self._holder.pid

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        """Let this thread be in it, with the threads and processes that it starts meanwhile."""
        here, other = Path("/proc/thread-self/ns/net"), Path(f"/proc/{self.pid}/ns/net")
        with here.open() as before, other.open() as there:
            _enter(there.fileno())
            try:
                yield
            finally:
                _enter(before.fileno())

    def run(self, *command: str) -> None:
        """Run a command of iproute2's in it."""
        with self.entered():
            _run(*command)

    def close(self) -> None:
        assert self._holder.stdin is not None
        assert self._holder.stdout is not None
        self._holder.stdin.close()
        self._holder.wait(20)
        self._holder.stdout.close()


def _enter(descriptor: int) -> None:
    if _libc.setns(descriptor, _CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


class Networks:
    """A client's machine and a server's, and a cable between them that can be cut at either end."""

    def __init__(self) -> None:
        self.client = Machine()
        self.server = Machine()
        try:
            self.client.run(
                *("ip", "link", "add", "cable", "type", "veth"),
                *("peer", "name", "cable", "netns", str(self.server.pid)),
            )
            for machine in (self.client, self.server):
                for device in ("lo", "cable"):
                    machine.run("ip", "link", "set", device, "up")
            for here, there in ADDRESSES.items():
                self.client.run("ip", "address", "add", f"{here}/24", "dev", "cable")
                self.server.run("ip", "address", "add", f"{there}/24", "dev", "cable")
            for machine, address in zip((self.client, self.server), SIX, strict=True):
                machine.run("ip", "address", "add", f"{address}/64", "dev", "cable", "nodad")
        except BaseException:
            self.close()
            raise

    def cut(self, machine: Machine) -> None:
        """Cut the cable at one of the two."""
        machine.run("ip", "link", "set", "cable", "down")

    def mend(self, machine: Machine) -> None:
        machine.run("ip", "link", "set", "cable", "up")

    def close(self) -> None:
        self.client.close()
        self.server.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def needed() -> None:
    """Skip the test where there are no namespaces, and say why."""
    if os.geteuid() != 0:
        pytest.skip("only root makes network namespaces")
    for program, package in (("ip", "iproute2"), ("unshare", "util-linux")):
        if shutil.which(program) is None:
            pytest.skip(f"there is no {program} (Debian's package is {package})")
    done = subprocess.run(["unshare", "--net", "ip", "link", "set", "lo", "up"], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"this system makes no network namespace: {done.stderr.strip()}")
