"""Who a client of another machine is: as a gateway says it to the engine, and as a server's `peer` tells it."""

from __future__ import annotations

import json
import struct
from typing import Any, Final

from npipe.errors import PipeProtocolError, WinError
from npipe.options import Peer

__all__ = ["MOST_GROUPS", "MOST_SIZE", "NOBODY_HERE", "pack_remote", "remote_peer"]

MOST_GROUPS: Final = 256
"""The engine's NP_MAX_GROUPS."""

MOST_SIZE: Final = 65536
"""The engine's NPW_REMOTE_SIZE."""

NOBODY_HERE: Final = 0xFFFFFFFF
"""The uid of a client of another machine, as the engine gives it."""

_HEAD: Final = struct.Struct("<4I")


def pack_remote(peer: Peer, *, uid: int, gid: int, groups: tuple[int, ...], most_message: int) -> bytes:
    """Return struct npw_remote of pipe/messages.h and what is behind it.

    `uid`, `gid` and `groups` (of which the first 256 count) are whom the client is on this machine, `most_message` the
    bytes of the longest message that can be sent to it.
    """
    groups = groups[:MOST_GROUPS]
    head = _HEAD.pack(uid, gid, len(groups), most_message) + struct.pack(f"<{len(groups)}I", *groups)
    told = {
        "user": peer.user,
        "host": peer.host,
        "domain": peer.domain,
        "local_user": peer.local_user,
        "sids": peer.sids,
        "address": peer.address,
        "encrypted": peer.encrypted,
        "kind": peer.kind,
        "origin": peer.origin,
    }
    return head + json.dumps(told, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "surrogatepass")


def remote_peer(data: bytes) -> Peer:
    """Return the Peer for that. Raises PipeProtocolError (13) for what another version has written."""
    try:
        count = _HEAD.unpack_from(data)[2]
        told: Any = json.loads(data[_HEAD.size + 4 * count :].decode("utf-8", "surrogatepass"))
        return Peer(
            pid=0,
            uid=None,
            user=_text(told["user"]),
            host=_text(told["host"]),
            domain=_text(told["domain"]),
            local_user=_text(told["local_user"]),
            sids=tuple(_text(sid) for sid in told["sids"]),
            address=_text(told["address"]),
            encrypted=bool(told["encrypted"]),
            kind=told["kind"],
            origin=told["origin"],
        )
    except (ValueError, TypeError, KeyError, struct.error) as error:
        raise PipeProtocolError(
            WinError.INVALID_DATA, detail="what was told of the client of another machine is not understood here"
        ) from error


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(value)
    return value
