"""Errors of opening and creating: connect, call, wait, listen, serve."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from pathlib import Path
from typing import Any
from unittest import mock

import npipe
import npipe.aio
from npipe.names import parse_name
from npipe.win32 import win32file, win32pipe
from tests import rendezvous
from tests.faces.error_table import CASES, SOON, Case, Face, case

# ---- There is no pipe

START = "start its server, check the name, or give both processes the same NPIPE_ROOT"


@case(
    "connect, where no pipe is",
    npipe.PipeNotFoundError,
    2,
    f"there is none of that name below ROOT; {START}",
    doing="opening the pipe",
)
async def _(face: Face) -> None:
    await face.connect()


@case(
    "wait, where no pipe is",
    npipe.PipeNotFoundError,
    2,
    f"there is none of that name below ROOT; {START}",
    doing="waiting for an instance",
)
async def _(face: Face) -> None:
    await face.do(face.module.wait, face.name, timeout=1)


@case(
    "connect with wait_for_server, and none comes",
    npipe.PipeTimeoutError,
    121,
    f"no server has come in that time: there is none of that name below ROOT; {START}",
    doing="waiting for the pipe's server",
)
async def _(face: Face) -> None:
    await face.connect(wait_for_server=True, timeout=SOON)


# ---- Busy

TAKEN = "all the instances that the pipe may have (max_instances: 1)"


@case(
    "connect without a wait, at the limit",
    npipe.PipeBusyError,
    231,
    f"clients have {TAKEN}; wait for one: connect(timeout=...) or npipe.wait()",
    doing="opening the pipe",
)
async def _(face: Face) -> None:
    await face.ends(max_instances=1)
    await face.connect(timeout=0)


@case(
    "connect, and nobody leaves in time",
    npipe.PipeTimeoutError,
    121,
    f"clients had {TAKEN} in that time; wait longer (timeout=), or let a client close",
    doing="opening the pipe",
)
async def _(face: Face) -> None:
    await face.ends(max_instances=1)
    await face.connect(timeout=SOON)


@case(
    "wait, and nobody leaves in time",
    npipe.PipeTimeoutError,
    121,
    f"clients had {TAKEN} in that time; wait longer (timeout=), or let a client close",
    doing="waiting for an instance",
)
async def _(face: Face) -> None:
    await face.ends(max_instances=1)
    await face.do(face.module.wait, face.name, timeout=SOON)


@case(
    "call, and nobody leaves in time",
    npipe.PipeBusyError,
    231,
    f"clients had {TAKEN} in that time; wait longer (timeout=), or let a client close",
    doing="calling the pipe",
)
async def _(face: Face) -> None:
    await face.ends(max_instances=1)
    await face.do(face.module.call, face.name, b"", timeout=SOON)


@case(
    "call, and the server accepts nobody",
    npipe.PipeBusyError,
    231,
    "no instance of the pipe was listening in that time; "
    "its server has to accept() the clients that have come, and listens again then; or wait longer (timeout=)",
    doing="calling the pipe",
)
async def _(face: Face) -> None:
    await face.listen()
    await face.connect()
    await face.do(face.module.call, face.name, b"", timeout=SOON)


async def _not_listening(face: Face) -> None:
    path = parse_name(face.name).path
    instance = win32pipe.CreateNamedPipe(path, 3, 4, 255, 0, 0, 0, None)
    client = win32file.CreateFile(path, 0xC0000000, 0, None, 3, 0, None)
    try:
        await face.connect(timeout=0)
    finally:
        client.Close()
        instance.Close()


CASES.append(
    Case(
        "connect without a wait, and no instance listens",
        _not_listening,
        npipe.PipeBusyError,
        231,
        "no instance of the pipe is listening just now; wait for one: connect(timeout=...) or npipe.wait()",
        doing="opening the pipe",
    )
)

STOPPED = "the pipe's server does not answer: process PID is stopped, or very busy"


async def _stopped(face: Face) -> None:
    server = face.process(
        """
        listener = npipe.listen(sys.argv[1])
        print(flush=True)
        sys.stdin.readline()
        """
    )
    assert server.stdout is not None
    await asyncio.to_thread(server.stdout.readline)
    server.send_signal(signal.SIGSTOP)
    await asyncio.to_thread(os.waitid, os.P_PID, server.pid, os.WSTOPPED | os.WNOWAIT)


@case(
    "connect, and the server's process is stopped",
    npipe.PipeTimeoutError,
    121,
    f"{STOPPED}; look at that process, or wait longer (timeout=)",
    doing="opening the pipe",
)
async def _(face: Face) -> None:
    await _stopped(face)
    await face.connect(timeout=SOON)


@case(
    "connect without a wait, and the server's process is stopped",
    npipe.PipeBusyError,
    231,
    f"{STOPPED}; look at that process",
    doing="opening the pipe",
)
async def _(face: Face) -> None:
    await _stopped(face)
    await face.connect(timeout=0)


# ---- The wrong kind of pipe, access, user

BYTES = "The pipe carries bytes, not messages"


@case(
    "connect for messages to a byte pipe",
    npipe.PipeModeError,
    87,
    'its server has made it a pipe of byte type; connect with mode="byte"',
    text=BYTES,
    doing="opening the pipe",
)
async def _(face: Face) -> None:
    await face.listen(mode="byte")
    await face.connect()


@case(
    "call a byte pipe",
    npipe.PipeModeError,
    87,
    'its server has made it a pipe of byte type; connect with mode="byte"',
    text=BYTES,
    doing="opening the pipe",
)
async def _(face: Face) -> None:
    await face.listen(mode="byte")
    await face.do(face.module.call, face.name, b"")


@case(
    "connect for both ways to an inbound pipe",
    npipe.PipeAccessError,
    5,
    'the pipe is inbound: clients only write; connect with access="write"',
    doing="opening the pipe",
)
async def _(face: Face) -> None:
    await face.listen(access="inbound")
    await face.connect()


@case(
    "connect for both ways to an outbound pipe",
    npipe.PipeAccessError,
    5,
    'the pipe is outbound: clients only read; connect with access="read"',
    doing="opening the pipe",
)
async def _(face: Face) -> None:
    await face.listen(access="outbound")
    await face.connect()


@case(
    "connect for both ways, and the security is for reading",
    npipe.PipeAccessError,
    5,
    'the pipe\'s security lets clients only read; connect with access="read"',
    doing="opening the pipe",
)
async def _(face: Face) -> None:
    await face.listen(security=npipe.Security(write=False))
    await face.connect()


@case(
    "connect for both ways, and the security is for writing",
    npipe.PipeAccessError,
    5,
    'the pipe\'s security lets clients only write; connect with access="write"',
    doing="opening the pipe",
)
async def _(face: Face) -> None:
    await face.listen(security=npipe.Security(read=False))
    await face.connect()


LET_IN = 'its server has to listen with a security that does ("group:NAME", "everyone", a Security)'

AS_NOBODY = """
os.setgroups([])
os.setuid(65534)
try:
    pipe = npipe.connect(sys.argv[1], verify_owner=sys.argv[2] == "True")
except npipe.PipeError as error:
    sys.stdout.buffer.write(pickle.dumps(error))
"""


@case(
    "connect as another user, who may not",
    npipe.PipeAccessError,
    5,
    f"the pipe belongs to USER, and its security does not let this user in; {LET_IN}",
    doing="opening the pipe",
    root_only=True,
)
async def _(face: Face) -> None:
    await face.listen()
    await face.raised_in(face.process(AS_NOBODY, "False"))


@case(
    "connect as another user, where some others may",
    npipe.PipeAccessError,
    5,
    f"the pipe's security does not let this user in; {LET_IN}",
    doing="opening the pipe",
    root_only=True,
)
async def _(face: Face) -> None:
    await face.listen(security=npipe.Security(users=(12345,)))
    await face.raised_in(face.process(AS_NOBODY, "False"))


@case(
    "connect to a stranger's pipe",
    npipe.PipeAccessError,
    5,
    "the pipe belongs to user nobody (uid 65534), not to you or root; connect with verify_owner=False if you trust it",
    doing="opening the pipe",
    root_only=True,
)
async def _(face: Face) -> None:
    server = face.process(
        """
        os.setgroups([])
        os.setuid(65534)
        listener = npipe.listen(sys.argv[1], security="everyone")
        print(flush=True)
        sys.stdin.readline()
        """
    )
    assert server.stdout is not None
    await asyncio.to_thread(server.stdout.readline)
    process = face.process(
        """
        os.setgroups([])
        os.setuid(65533)
        try:
            npipe.connect(sys.argv[1])
        except npipe.PipeError as error:
            sys.stdout.buffer.write(pickle.dumps(error))
        """
    )
    await face.raised_in(process)


# ---- Other machines


@case(
    "connect to another machine's pipe without the extra",
    npipe.PipeStateError,
    50,
    "it is a pipe of HOST, and those need smbprotocol, which is not installed; pip install 'npipe[smb]'",
    text="Pipes of other machines need an extra",
    doing="opening the pipe",
)
async def _(face: Face) -> None:
    face.name = r"\\HOST\pipe\x"
    with mock.patch.dict(sys.modules):
        for name in [name for name in sys.modules if name.startswith("npipe.transports.smb")]:
            del sys.modules[name]
        sys.modules.update(smbprotocol=None, spnego=None)  # type: ignore[call-overload]
        await face.connect()


@case(
    "listen on another machine's name",
    npipe.PipeNameError,
    123,
    r"a server's pipe is on its own machine, and this one names HOST; write \\.\pipe\x",
    doing="creating an instance",
)
async def _(face: Face) -> None:
    face.name = r"\\HOST\pipe\x"
    await face.listen()


# ---- Names

_FORM = r"write \\.\pipe\NAME"


def _named(title: str, code: int, reason: str, name: str) -> None:
    async def provoke(face: Face) -> None:
        face.name = name
        await face.connect()

    CASES.append(Case(title, provoke, npipe.PipeNameError, code, reason))


_named("an empty name", 3, f"the name is empty; {_FORM}", "")
_named("a name that is too long", 123, "longer than 256 characters, prefix included; choose a shorter one", "x" * 300)
_named(
    "a name with a line's end",
    123,
    r"it has a control character; if that is meant, write \\?\pipe\NAME",
    "a\nb",
)
_named("the path of a file", 123, f"this is the path of a file; {_FORM}", r"C:\x")
_named("another device", 3, f"this is not the pipe device; {_FORM}", r"\\.\pip\x")
_named("the root of all pipes", 123, f"this is the root of all pipes, not a pipe; {_FORM}", "\\\\.\\pipe\\")


# ---- Creating

SHARE = "or share it: exclusive=False in both"


@case(
    "listen on a name that this process has",
    npipe.PipeAccessError,
    5,
    f"the name is taken: this process has it; close that listener first, choose another name, {SHARE}",
    doing="creating an instance",
)
async def _(face: Face) -> None:
    await face.listen()
    await face.listen()


async def _other_owner(face: Face, **options: Any) -> None:
    server = face.process(
        f"""
        listener = npipe.listen(sys.argv[1], **{options!r})
        print(flush=True)
        sys.stdin.readline()
        """
    )
    assert server.stdout is not None
    await asyncio.to_thread(server.stdout.readline)


@case(
    "listen on a name that another process has",
    npipe.PipeAccessError,
    5,
    f"the name is taken: process PID of USER has it; end that process, choose another name, {SHARE}",
    doing="creating an instance",
)
async def _(face: Face) -> None:
    await _other_owner(face)
    await face.listen()


@case(
    "serve a name that another process has",
    npipe.PipeAccessError,
    5,
    f"the name is taken: process PID of USER has it; end that process, choose another name, {SHARE}",
    doing="creating an instance",
)
async def _(face: Face) -> None:
    await _other_owner(face)
    await face.serve(bytes)


@case(
    "listen at the limit of instances",
    npipe.PipeBusyError,
    231,
    "this process has all the instances that the pipe may have (max_instances: 1); "
    "close one first, or give the first listen a higher max_instances",
    doing="creating an instance",
)
async def _(face: Face) -> None:
    await face.listen(max_instances=1, exclusive=False)
    await face.listen(max_instances=1, exclusive=False)


@case(
    "listen at the limit of another process",
    npipe.PipeBusyError,
    231,
    "process PID of USER has all the instances that the pipe may have (max_instances: 1); "
    "choose another name, or have its first server listen with a higher max_instances",
    doing="creating an instance",
)
async def _(face: Face) -> None:
    await _other_owner(face, max_instances=1, exclusive=False)
    await face.listen(exclusive=False)


@case(
    "listen with another direction",
    npipe.PipeAccessError,
    5,
    'this process has the name already, with access="inbound", and not "duplex"; listen with access="inbound" too',
    doing="creating an instance",
)
async def _(face: Face) -> None:
    await face.listen(access="inbound", exclusive=False)
    await face.listen(exclusive=False)


@case(
    "listen below a root that others may write to",
    npipe.PipeAccessError,
    5,
    "the root folder ROOT cannot be trusted: it belongs to USER with mode 0777; it has to belong to you or root, and "
    "only they may write to it, or it needs the sticky bit",
    doing="creating an instance",
)
async def _(face: Face) -> None:
    root = Path(os.environ["NPIPE_ROOT"])
    root.mkdir()
    root.chmod(0o777)
    await face.listen()


@case(
    "listen below a root that cannot be made",
    npipe.PipeNameError,
    3,
    "the root folder ROOT cannot be made: No such file or directory; "
    "make the folder that it is in, or set NPIPE_ROOT to another one",
    text="The folder of pipes cannot be made",
    doing="creating an instance",
)
async def _(face: Face) -> None:
    with _root_set_to(os.environ["NPIPE_ROOT"] + "/nowhere/root"):
        await face.listen()


@contextlib.contextmanager
def _root_set_to(path: str) -> Any:
    before = os.environ["NPIPE_ROOT"]
    os.environ["NPIPE_ROOT"] = path
    try:
        yield
    except npipe.PipeError as error:
        if error.detail is not None:
            error.detail = error.detail.replace(path, before)
        raise
    finally:
        os.environ["NPIPE_ROOT"] = before


# ---- Other versions, nonsense, and too little of everything


async def _answered(face: Face, message: bytes) -> None:
    """Connect to an owner that answers that, whatever it was asked."""
    with rendezvous.own(parse_name(face.name).path) as owner:
        told = asyncio.ensure_future(asyncio.to_thread(owner.answer, message))
        try:
            await face.connect()
        finally:
            await told


@case(
    "connect to a server of another version",
    npipe.PipeVersionError,
    1306,
    "the server speaks version 2 of npipe's protocol, this process version 1; "
    "install the same version of npipe on both sides",
    doing="opening the pipe",
)
async def _(face: Face) -> None:
    await _answered(face, rendezvous.answer(1306, version=2))


@case(
    "connect to a server that talks nonsense",
    npipe.PipeProtocolError,
    13,
    "the server's answer makes no sense; the connection was ended and no data of it can be trusted; connect again",
    doing="opening the pipe",
)
async def _(face: Face) -> None:
    await _answered(face, b"hello")


WITHOUT_DESCRIPTORS = """
import asyncio, inspect, resource

async def main():
    module = npipe if sys.argv[2] == "sync" else npipe.aio
    try:
        limit = len(os.listdir("/proc/self/fd")) - 1
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
        made = module.connect(sys.argv[1])
        await made if inspect.isawaitable(made) else made
    except npipe.PipeError as error:
        sys.stdout.buffer.write(pickle.dumps(error))

asyncio.run(main())
"""


@case(
    "connect, without a descriptor left",
    npipe.PipeResourceError,
    4,
    "close connections that are no longer needed, or raise the limit (ulimit -n)",
    doing="opening the pipe",
)
async def _(face: Face) -> None:
    await face.listen()
    await face.raised_in(face.process(WITHOUT_DESCRIPTORS, face.kind))


def _argument(title: str, reason: str, *, listens: bool = False, **options: Any) -> None:
    async def provoke(face: Face) -> None:
        await (face.listen(**options) if listens else face.connect(**options))

    CASES.append(Case(title, provoke, npipe.PipeArgumentError, 87, reason))


_argument("an unknown mode", 'mode is "message" or "byte", not \'text\'', mode="text")
_argument("a negative time-out", "a timeout is 0 or more seconds, not -1.0", timeout=-1)
_argument(
    "an unknown access",
    'access is one of "duplex", "read", "write", "none", "inbound", "outbound", not \'all\'',
    access="all",
)
_argument("no instances at all", "max_instances is 1 to 254, not 0", listens=True, max_instances=0)
_argument(
    "an unknown security",
    'security is "owner", "group:NAME", "everyone" or a Security, not \'me\'',
    listens=True,
    security="me",
)
