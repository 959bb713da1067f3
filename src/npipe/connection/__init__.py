r"""multiprocessing.connection on named pipes: the same functions, quicker, and arrays are copied once in and once out.

    from npipe.connection import Client, Listener, Pipe, wait

A connection sends and receives objects (`send`, `recv`) and bytes (`send_bytes`, `recv_bytes`), and goes to other
processes as one of multiprocessing's does: by a fork, in the arguments of a Process, over another connection. Addresses
are names of pipes: `\\.\pipe\NAME`, or the bare NAME. `context` is a context of multiprocessing's whose queues, pools
and managers stand on such connections.

On Windows they are multiprocessing's own, which are message pipes there: see docs/connection.md for what differs.

To unpickle is to run what the sender wants: connect to those you trust, or give an `authkey`.
"""

from __future__ import annotations

import sys
from multiprocessing.connection import answer_challenge, deliver_challenge

# Not on first use: a child that is forked while another thread imports a module waits for that for ever.
if sys.platform == "win32":
    from npipe.connection._native import (
        Client,
        Connection,
        Listener,
        Pipe,
        context,
        rebuild_connection,
        reduce_connection,
        wait,
    )
else:
    from npipe.connection._connections import Connection, Pipe, wait
    from npipe.connection._contexts import context
    from npipe.connection._rendezvous import Client, Listener
    from npipe.connection._travel import _rebuild as _rebuild
    from npipe.connection._travel import rebuild_connection, reduce_connection

families: list[str] = ["AF_PIPE"]
"""The families of addresses that there are, as multiprocessing.connection has them."""

__all__ = [
    "Client",
    "Connection",
    "Listener",
    "Pipe",
    "answer_challenge",
    "context",
    "deliver_challenge",
    "families",
    "rebuild_connection",
    "reduce_connection",
    "wait",
]
