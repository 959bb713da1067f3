"""Errors of pipes that clients of other machines may open."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

import npipe
from tests.export.helpers import Smbd
from tests.faces.error_table import Face, case

NOT_THERE = 'there is no "everyone" for a network: name them all, ("authenticated", "guests", "anonymous")'


@case(
    "listen for a network, without the network",
    npipe.PipeArgumentError,
    87,
    'allow, require_encryption and samba_dir are for clients of other machines; let them in with remote="samba"',
)
async def _(face: Face) -> None:
    await face.listen(allow="alice")


@case("listen for everybody in a network", npipe.PipeArgumentError, 87, NOT_THERE)
async def _(face: Face) -> None:
    await face.listen(remote="samba", allow="everyone")


@case(
    "send, of what Samba cannot carry",
    npipe.PipeArgumentError,
    87,
    "Samba carries messages of 1 to 65535 bytes to a client of another machine: none that is empty or longer; "
    "send it in parts, or listen in byte mode",
    doing="writing",
)
async def _(face: Face) -> None:
    with tempfile.TemporaryDirectory() as folder:
        listener = await face.listen(remote="samba", allow="authenticated", samba_dir=folder)
        short = listener.name.removeprefix("\\\\.\\pipe\\")
        with await asyncio.to_thread(Smbd, Path(folder), short):
            pipe = await face.do(listener.accept, timeout=10)
            try:
                await face.do(pipe.send, bytes(65536))
            finally:
                await face.do(pipe.close)


@case(
    "listen for a network, with a name that Samba does not look up",
    npipe.PipeNameError,
    123,
    "Samba looks up no pipe of that name; choose a name without /",
    doing="exporting the pipe",
)
async def _(face: Face) -> None:
    with tempfile.TemporaryDirectory() as folder:
        face.name = "\\\\?\\pipe\\a/b"
        await face.listen(remote="samba", allow="alice", samba_dir=folder)
