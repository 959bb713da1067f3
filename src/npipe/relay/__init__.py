r"""Relays: any two of pipe, Unix socket, TCP, TLS, websocket, command and stdio as one connection.

    async with npipe.relay.Relay(r"\\.\pipe\docker_engine", "unix:/var/run/docker.sock") as relay:
        await relay.run()

`npipe relay` is the command of it, and docs/relay.md the page.
"""

from __future__ import annotations

from npipe.relay.addresses import Address, parse_address
from npipe.relay.base import Framing, PeerLostError, RelayOptions
from npipe.relay.conversation import Flow, Report
from npipe.relay.relaying import Relay, Summary
from npipe.relay.secured import tls_contexts

__all__ = [
    "Address",
    "Flow",
    "Framing",
    "PeerLostError",
    "Relay",
    "RelayOptions",
    "Report",
    "Summary",
    "parse_address",
    "tls_contexts",
]
