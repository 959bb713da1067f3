"""What an end of a relay is called: `unix:PATH`, `tcp:HOST:PORT`, a pipe's name, and so on."""

from __future__ import annotations

import os
import re
import sys
from dataclasses import dataclass, field
from typing import Final, Literal

from npipe.errors import PipeArgumentError, WinError
from npipe.names import PipeName, parse_name

__all__ = ["LOOPBACK", "Address", "Kind", "Role", "is_host", "parse_address"]

Kind = Literal["pipe", "unix", "tcp", "tls", "ws", "wss", "stdio", "exec"]
"""What carries an end. `dotnet:NAME` is a Unix socket, and a pipe on Windows."""

Role = Literal["listen", "dial"]
"""Whether an end waits for who connects to it, or connects itself."""

LOOPBACK: Final = "127.0.0.1"
"""The host where none is named."""

_SCHEME: Final = re.compile(r"(listen|dial|pipe|unix|dotnet|tcp|tls|exec):|(wss?):(?://)?", re.IGNORECASE)
_HOST_PORT: Final = re.compile(r"(?:(\[[^\[\]/]*\]|[^:/\[\]]*):)?([0-9]{1,5})")
_MAX_PORT: Final = 65535
_MAX_SOCKET_PATH: Final = 107  # bytes; what sockaddr_un has, without the NUL


@dataclass(frozen=True)
class Address:
    """An end of a relay, as parse_address has understood it."""

    kind: Kind
    given: str
    """The text as it was given, without the role."""
    role: Role | None = None
    """What the text says of it; None: the relay decides."""
    name: PipeName | None = None
    """The pipe, of "pipe"."""
    path: str = ""
    """The socket's path, of "unix"; the path of the URL, of "ws" and "wss"; the command, of "exec"."""
    host: str = ""
    port: int = 0
    host_was_given: bool = field(default=False, compare=False)
    """Whether the text names a host: without one it is the loopback."""

    @property
    def is_once(self) -> bool:
        """Whether there is one such end only: stdio."""
        return self.kind == "stdio"

    @property
    def has_messages(self) -> bool:
        """Whether it keeps the boundaries of messages by itself; of a pipe only its type tells."""
        return self.kind in ("pipe", "ws", "wss")


def parse_address(text: str) -> Address:
    r"""Return what `text` names: one end of a relay.

    Args:
        text: a pipe's name in any form of npipe.connect, or with `pipe:` before it; `unix:PATH`; `tcp:HOST:PORT`;
            `tls:HOST:PORT`; `ws:HOST:PORT/PATH`, `wss:` the same over TLS; `stdio`; `exec:COMMAND`; `dotnet:NAME`, a
            pipe of .NET's. `HOST:` may be left out: 127.0.0.1. `listen:` or `dial:` before it says which of the two.

    Returns:
        The Address.

    Raises:
        PipeArgumentError: it is none of these, or a part of it is wrong; a Unix socket on Windows (87).
        PipeNameError: the name is not a pipe's (3, 123).
    """
    role: Role | None = None
    rest = text
    if match := re.match(r"(listen|dial):", text, re.IGNORECASE):
        role = "listen" if match[1].lower() == "listen" else "dial"
        rest = text[match.end() :]
    if not rest:
        raise _bad(text, "it is empty")
    if rest.lower() == "stdio":
        if role is not None:
            raise _bad(text, "standard input and output neither listen nor dial")
        return Address("stdio", rest)
    match = _SCHEME.match(rest)
    scheme = "" if match is None else (match[1] or match[2]).lower()
    after = rest if match is None else rest[match.end() :]
    if scheme in ("listen", "dial"):
        raise _bad(text, "it says twice whether it listens")
    if scheme in ("", "pipe"):
        return Address("pipe", rest, role, name=parse_name(after))
    if not after:
        raise _bad(text, f"nothing follows {scheme}:")
    if scheme == "unix":
        return Address("unix", rest, role, path=_socket_path(text, after))
    if scheme == "dotnet":
        return _dotnet(text, rest, role, after)
    if scheme == "exec":
        if role == "listen":
            raise _bad(text, "a command does not listen")
        return Address("exec", rest, role, path=after)
    if scheme in ("ws", "wss"):
        place, slash, path = after.partition("/")
        host, port, told = _host_port(text, place)
        kind: Kind = "ws" if scheme == "ws" else "wss"
        return Address(kind, rest, role, path=slash + path or "/", host=host, port=port, host_was_given=told)
    host, port, told = _host_port(text, after)
    return Address("tcp" if scheme == "tcp" else "tls", rest, role, host=host, port=port, host_was_given=told)


def _host_port(text: str, place: str) -> tuple[str, int, bool]:
    match = _HOST_PORT.fullmatch(place)
    if match is None:
        raise _bad(text, "it takes HOST:PORT, or PORT alone, which is 127.0.0.1; an IPv6 address stands in brackets")
    host, port = (match[1] or "").strip("[]"), int(match[2])
    if port > _MAX_PORT:
        raise _bad(text, f"a port is 65535 at most, not {port}")
    if host and not is_host(host):
        raise _bad(text, f"{host!r} cannot be the name of a host")
    return host or LOOPBACK, port, bool(host)


def is_host(text: str) -> bool:
    """Whether it can be a host's name or address: what goes between its dots has 63 characters at most, and no NUL."""
    try:
        text.encode("idna")
    except UnicodeError:
        return False
    return bool(text) and "\0" not in text and not text.startswith(".")


def _socket_path(text: str, path: str) -> str:
    if sys.platform == "win32":
        raise _bad(text, "Python's event loop has no Unix sockets on Windows: use tcp: there")
    if "\0" in path:
        raise _bad(text, "a NUL cannot be part of a path")
    if len(os.fsencode(path)) > _MAX_SOCKET_PATH:
        raise _bad(text, f"the path of a socket has {_MAX_SOCKET_PATH} bytes at most")
    return path


def _dotnet(text: str, given: str, role: Role | None, name: str) -> Address:
    """.NET's NamedPipeServerStream: a pipe on Windows, elsewhere a socket in the folder for temporary files."""
    if sys.platform == "win32":
        return Address("pipe", given, role, name=parse_name(name))
    if name.startswith("/"):  # .NET takes it as the socket's path
        return Address("unix", given, role, path=_socket_path(text, name))
    if "/" in name:
        raise _bad(text, "a name of .NET's has no slash, or is a whole path")
    # Path.GetTempPath: $TMPDIR, or /tmp.
    folder = os.environ.get("TMPDIR") or "/tmp"  # noqa: S108 - .NET's own choice
    return Address("unix", given, role, path=_socket_path(text, os.path.join(folder, f"CoreFxPipe_{name}")))  # noqa: PTH118 - bytes may be odd


def _bad(text: str, detail: str) -> PipeArgumentError:
    return PipeArgumentError(
        WinError.INVALID_PARAMETER,
        detail=f"{text!r} is no end of a relay: {detail}",
        hint="an end is a pipe's name, unix:PATH, tcp:HOST:PORT, tls:HOST:PORT, ws:HOST:PORT/PATH, stdio, "
        "exec:COMMAND or dotnet:NAME, with listen: or dial: before it if need be",
    )
