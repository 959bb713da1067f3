"""What a caller may ask for, checked and turned into Win32's numbers; and what is told in return.

Everything here is plain data. A wrong value raises `PipeArgumentError` (87), which is also a `ValueError`.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import math
import operator
import os
import sys
import time
from dataclasses import dataclass
from typing import (
    TYPE_CHECKING,
    Any,
    Final,
    Literal,
    NamedTuple,
    NoReturn,
    SupportsFloat,
    SupportsIndex,
    TypedDict,
    TypeVar,
)

from npipe.errors import PipeArgumentError, PipeStateError, WinError
from npipe.remote_access import Remote, RemoteAccess, remote_access

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from npipe.remote import Remote as OtherMachine


__all__ = [
    "Access",
    "AccessRule",
    "ConnectOptions",
    "CreateOptions",
    "Direction",
    "ListenOptions",
    "Mode",
    "Model",
    "Peek",
    "Peer",
    "PipeInfo",
    "PipeListing",
    "Security",
    "ServeOptions",
    "check_count",
    "check_handler",
    "check_timeout",
    "client_access",
    "deadline_of",
    "default_timeout_ms",
    "direction_name",
    "flag",
    "handler_signature",
    "is_message_mode",
    "listen_options",
    "message_limit",
    "message_size",
    "mode_name",
    "parse_security",
    "peek_size",
    "pipe_direction",
    "read_size",
    "refuse_position",
    "refuse_unknown",
    "takes_listen_options",
    "time_left",
    "validate_buffer_size",
    "validate_instances",
    "validate_pool_size",
]

# --- Words -----------------------------------------------------------------------------------------------------

Mode = Literal["message", "byte"]
"""How a pipe is written (its type) and read (its read mode): message by message, or as a stream of bytes."""

Access = Literal["duplex", "read", "write", "none"]
"""What a client opens a pipe for. "none" is a full connection that may neither read nor write."""

Direction = Literal["duplex", "inbound", "outbound"]
"""Which way a pipe carries data, as its server sees it: inbound is from the client to the server."""

Model = Literal["threaded", "overlapped", "completion"]
"""How a server attends to its clients: the three architectures of Microsoft's articles."""

# --- Win32's numbers (SEMANTICS §0.2) --------------------------------------------------------------------------

PIPE_ACCESS_INBOUND: Final = 1
PIPE_ACCESS_OUTBOUND: Final = 2
PIPE_ACCESS_DUPLEX: Final = 3
FILE_FLAG_FIRST_PIPE_INSTANCE: Final = 0x80000
PIPE_TYPE_BYTE: Final = 0
PIPE_TYPE_MESSAGE: Final = 4
PIPE_READMODE_MESSAGE: Final = 2
PIPE_UNLIMITED_INSTANCES: Final = 255
PIPE_SERVER_END: Final = 1
NMPWAIT_WAIT_FOREVER: Final = 0xFFFFFFFF

ACCESS_NONE: Final = 0
ACCESS_READ: Final = 1
ACCESS_WRITE: Final = 2

_MAX_DWORD: Final = 0xFFFFFFFF
_USUAL_WAIT_MS: Final = 50
_MAX_POOL: Final = 65535
_NO_ID: Final = 0xFFFFFFFF  # (uid_t)-1, which POSIX reserves

_DIRECTIONS: Final = {
    "inbound": PIPE_ACCESS_INBOUND,
    "outbound": PIPE_ACCESS_OUTBOUND,
    "duplex": PIPE_ACCESS_DUPLEX,
    "read": PIPE_ACCESS_INBOUND,
    "write": PIPE_ACCESS_OUTBOUND,
}
_DIRECTION_NAMES: Final[dict[int, Direction]] = {
    PIPE_ACCESS_INBOUND: "inbound",
    PIPE_ACCESS_OUTBOUND: "outbound",
    PIPE_ACCESS_DUPLEX: "duplex",
}
_CLIENT_ACCESS: Final = {
    "duplex": ACCESS_READ | ACCESS_WRITE,
    "read": ACCESS_READ,
    "write": ACCESS_WRITE,
    "none": ACCESS_NONE,
    "inbound": ACCESS_WRITE,
    "outbound": ACCESS_READ,
}


def is_message_mode(mode: str) -> bool:
    """Return True for "message", False for "byte"; anything else raises `PipeArgumentError` (87)."""
    if mode not in ("message", "byte"):
        raise _bad(f'mode is "message" or "byte", not {mode!r}')
    return mode == "message"


def mode_name(message: int) -> Mode:
    """Return the word for a PIPE_TYPE_* or PIPE_READMODE_*, of which all but the bit for messages is cut off."""
    return "message" if message else "byte"


def pipe_direction(access: str) -> int:
    """Return PIPE_ACCESS_* for what `listen` was asked for.

    "inbound", "outbound" and "duplex"; also "read" and "write", for what the server itself then does.
    Anything else raises `PipeArgumentError` (87).
    """
    return _look_up(_DIRECTIONS, access)


def direction_name(direction: int) -> Direction:
    """Return the word for PIPE_ACCESS_*; an unknown number raises `PipeArgumentError` (87)."""
    try:
        return _DIRECTION_NAMES[direction]
    except KeyError:
        raise _bad(f"a direction is 1, 2 or 3, not {direction!r}") from None


def client_access(access: str) -> int:
    """Return ACCESS_READ | ACCESS_WRITE for what `connect` was asked for (SEMANTICS §2.5).

    "duplex", "read", "write" and "none"; also a pipe's direction as its server names it, so "inbound" lets the
    client write and "outbound" lets it read. Anything else raises `PipeArgumentError` (87).
    """
    return _look_up(_CLIENT_ACCESS, access)


def refuse_outbound(access: object) -> None:
    """Raise PipeArgumentError (87) for the direction in which a server never gets a request."""
    if access == "outbound":
        raise PipeArgumentError(
            WinError.INVALID_PARAMETER,
            detail='a server of requests reads them: access is "duplex" or "inbound", not "outbound"',
            hint="to write only, use listen() and accept()",
        )


def _look_up(table: dict[str, int], word: str) -> int:
    try:
        return table[word]
    except (KeyError, TypeError):
        words = ", ".join(f'"{known}"' for known in table)
        raise _bad(f"access is one of {words}, not {word!r}") from None


# --- Numbers and times -----------------------------------------------------------------------------------------


def validate_buffer_size(size: SupportsIndex, what: str = "a buffer size") -> int:
    """Return `size` in bytes, a DWORD: 0 to 4294967295, taken exactly (SEMANTICS §2.1).

    `what` names the argument in the error: `PipeArgumentError` (87); `TypeError` for what is not a whole number.
    """
    return _whole(size, 0, _MAX_DWORD, what)


def validate_instances(limit: SupportsIndex | None) -> int:
    """Return nMaxInstances: 1 to 254, or 255 for None, which is no limit (SEMANTICS §2.1).

    Anything else raises `PipeArgumentError` (87); what is not a whole number, `TypeError`.
    """
    if limit is None:
        return PIPE_UNLIMITED_INSTANCES
    if type(limit) is int and limit == PIPE_UNLIMITED_INSTANCES:
        raise _bad("max_instances is 1 to 254, not 255, which is Win32's word for no limit: that is None here")
    return _whole(limit, 1, PIPE_UNLIMITED_INSTANCES - 1, "max_instances")


def validate_pool_size(size: SupportsIndex) -> int:
    """Return how many connections a pool may have: 1 to 65535.

    Anything else raises `PipeArgumentError` (87); what is not a whole number, `TypeError`.
    """
    return _whole(size, 1, _MAX_POOL, "size")


LARGEST_MESSAGE: Final = _MAX_DWORD
"""Bytes of a message at most, which is Win32's limit."""

STRANGER_MESSAGE: Final = 64 * 1024 * 1024
"""The same, unless told otherwise, of a peer that may be another user's: it is memory of ours that this takes."""


def message_limit(size: SupportsIndex | None, *, stranger: bool) -> int:
    """Return max_message_size in bytes: 0 to 4294967295; None is that, and 64 MiB if the peer may be a `stranger`.

    Anything else raises `PipeArgumentError` (87); what is not a whole number, `TypeError`.
    """
    if size is None:
        return STRANGER_MESSAGE if stranger else LARGEST_MESSAGE
    return message_size(size)


def message_size(size: SupportsIndex) -> int:
    """Return what a pipe's max_message_size is set to, in bytes; raises as message_limit, and TypeError for None."""
    return _whole(size, 0, LARGEST_MESSAGE, "max_message_size")


def check_count(count: SupportsIndex, lowest: int, highest: int, what: str) -> int:
    """Return `count`, a whole number from `lowest` to `highest`; raises as validate_buffer_size does."""
    return _whole(count, lowest, highest, what)


def peek_size(size: SupportsIndex) -> int:
    """Return how many bytes to look at: 0 to 4294967295; raises as validate_buffer_size does."""
    return size if type(size) is int and 0 <= size <= _MAX_DWORD else _whole(size, 0, _MAX_DWORD, "size")


def read_size(size: SupportsIndex) -> int:
    """Return how many bytes to read: -1, for all, or 0 to 4294967295. Any negative number is all, as for files.

    Raises `PipeArgumentError` (87) for a larger one, and for a bool; `TypeError` for what is not a whole number.
    """
    if type(size) is int and size <= _MAX_DWORD:
        return max(size, -1)
    return max(_whole(size, -sys.maxsize - 1, _MAX_DWORD, "size"), -1)


def flag(value: object, what: str) -> bool:
    """Return `value`, which is True or False; TypeError for anything else: "no" would count as a yes."""
    if value is True or value is False:
        return value
    raise TypeError(f"{what} is True or False, not {type(value).__name__}")


def default_timeout_ms(seconds: float | None) -> int:
    """Return nDefaultTimeOut in milliseconds for a pipe's default time-out in seconds.

    0 is 50 ms (SEMANTICS §2.1), None and infinity are NMPWAIT_WAIT_FOREVER, and what is no whole number of
    milliseconds is rounded up, so that it never becomes that 0. Raises as `check_timeout` does, and for more
    than a DWORD of milliseconds (49 days).
    """
    checked = check_timeout(seconds)
    if checked is None:
        return NMPWAIT_WAIT_FOREVER
    if checked == 0:
        return _USUAL_WAIT_MS
    # Rounded first, so that the noise of binary fractions (0.07 s is 70.00000000000001 ms) adds no millisecond.
    milliseconds = max(1, math.ceil(round(checked * 1000, 6)))
    if milliseconds >= NMPWAIT_WAIT_FOREVER:
        raise _bad(f"default_timeout is at most {(NMPWAIT_WAIT_FOREVER - 1) / 1000} seconds, or None for ever")
    return milliseconds


def as_long(dword: int) -> int:
    """Return a DWORD as pywin32's functions take it: as a C long."""
    return dword - (_MAX_DWORD + 1) if dword > _MAX_DWORD >> 1 else dword


def check_timeout(timeout: float | None) -> float | None:
    """Return a time-out in seconds; None, and infinity made None, for ever.

    A negative number, NaN or a bool raises `PipeArgumentError` (87); what is not a number, `TypeError`.
    """
    if timeout is None:
        return None
    if type(timeout) is float and 0.0 <= timeout < math.inf:  # by far the most frequent
        return timeout
    if isinstance(timeout, bool) or str(getattr(timeout, "dtype", "")) == "bool":  # Python's, or numpy's
        raise _bad(f"a timeout is a number of seconds or None, not {timeout!r}")
    seconds = _seconds(timeout)
    if seconds < 0:
        raise _bad(f"a timeout is 0 or more seconds, not {seconds!r}")
    return None if seconds == math.inf else seconds


def look_timeout(timeout: float | None) -> float | None:
    """Return a time-out as multiprocessing takes one: None, and infinity made None, for ever; below 0 is 0, as a look.

    NaN raises `PipeArgumentError` (87); what is not a number, `TypeError`.
    """
    if timeout is None:
        return None
    seconds = _seconds(timeout)
    return None if seconds == math.inf else max(seconds, 0.0)


def _seconds(timeout: float) -> float:
    """Return the number of any type as a float, which is not NaN: infinite if it is beyond all floats."""
    if not isinstance(timeout, SupportsFloat):
        raise TypeError(f"a timeout is a number of seconds or None, not {type(timeout).__name__}")
    try:
        seconds = float(timeout)
    except OverflowError:  # a whole number beyond all floats
        seconds = math.inf if timeout > 0 else -math.inf
    except ValueError as error:  # a Decimal's signalling NaN, say
        raise _bad(f"a timeout is a number of seconds or None, not {timeout!r}") from error
    if math.isnan(seconds):
        raise _bad(f"a timeout is 0 or more seconds, not {seconds!r}")
    return seconds


def refuse_position(values: Sequence[object]) -> NoReturn:
    """Raise TypeError for what recv was given by its position: a time-out, or a size as of a socket's recv."""
    raise TypeError(
        f"recv() takes nothing by position: seconds to wait are recv(timeout={values[0]!r}), and there is no size, "
        "as a message is returned whole"
    )


def deadline_of(timeout: float | None) -> float | None:
    """Return the time.monotonic at which a time-out that begins now is over; None for never. It is checked as above."""
    timeout = check_timeout(timeout)
    return None if timeout is None else time.monotonic() + timeout


def time_left(deadline: float | None) -> float | None:
    """Return the seconds until a deadline; None for ever."""
    return None if deadline is None else max(0.0, deadline - time.monotonic())


def _whole(value: SupportsIndex, lowest: int, highest: int, what: str) -> int:
    if isinstance(value, bool):
        raise _bad(f"{what} is a whole number, not {value!r}")
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{what} is a whole number, not {type(value).__name__}") from None
    if not lowest <= number <= highest:
        raise _bad(f"{what} is {lowest} to {highest}, not {number}")
    return number


# --- Who may connect -------------------------------------------------------------------------------------------


effective_uid: Callable[[], int] | None = None
"""What tells whom the calling thread acts as, where there is an engine. Its binding sets it."""


class AccessRule(NamedTuple):
    """A pipe's security as the engine checks it against a peer's credentials."""

    uids: tuple[int, ...]
    """Users who may connect: always the owner, sorted, each once."""
    gids: tuple[int, ...]
    """Groups whose members may connect, sorted, each once."""
    everyone: bool
    """Whether anybody may."""
    access: int
    """What a client may open the pipe for: ACCESS_READ | ACCESS_WRITE."""


@dataclass(frozen=True)
class Security:
    """Who may connect to a pipe, and for what. The owner, who listens, always may; `Security()` is nobody else.

    `read` and `write` are what a *client* may do, the owner's clients too. `sddl` is a security descriptor in text
    form: it takes the place of all else on Windows, and is not looked at elsewhere, where the other fields rule.
    """

    users: tuple[str | int, ...] = ()
    """Names or uids."""
    groups: tuple[str | int, ...] = ()
    """Names or gids."""
    everyone: bool = False
    """Anybody on this machine."""
    read: bool = True
    """Whether a client may read what the server writes."""
    write: bool = True
    """Whether a client may write."""
    sddl: str | None = None
    """For Windows, such as "D:(A;;GA;;;OW)"."""

    def __post_init__(self) -> None:
        for what in ("users", "groups"):
            given = getattr(self, what)
            if isinstance(given, (str, bytes, int)):
                raise TypeError(f"{what} is a tuple of names or ids: write ({given!r},)")
            object.__setattr__(self, what, tuple(given))  # a list is welcome, and must not change later
        if not (self.read or self.write):
            raise _bad("a Security that lets clients neither read nor write is of no use")

    @property
    def lets_others_in(self) -> bool:
        """Whether it is for more than the owner, and who may do everything anyway."""
        return bool(self.users or self.groups or self.everyone or self.sddl)

    def resolve(self) -> AccessRule:
        """Look the names up, now, in this system's users and groups, and return their numbers.

        Raises `PipeArgumentError` (87) for an unknown one and, on Windows, `PipeStateError` (50).
        """
        if sys.platform == "win32":
            raise PipeStateError(WinError.NOT_SUPPORTED, detail="users and groups by number are POSIX's")
        me = os.geteuid() if effective_uid is None else effective_uid()
        uids = {me, *(_id_of(user, "user", _uid_of_name) for user in self.users)}
        gids = {_id_of(group, "group", _gid_of_name) for group in self.groups}
        access = (ACCESS_READ if self.read else 0) | (ACCESS_WRITE if self.write else 0)
        return AccessRule(tuple(sorted(uids)), tuple(sorted(gids)), bool(self.everyone), access)


def parse_security(security: str | Security) -> Security:
    """Return the `Security` for "owner", "group:NAME" or "everyone"; a `Security` is checked and returned as it is.

    Raises `PipeArgumentError` (87) for another word and, except on Windows, for users and groups that do not exist.
    """
    if isinstance(security, Security):
        parsed = security
    elif not isinstance(security, str):
        raise TypeError(f"security is text or a Security, not {type(security).__name__}")
    elif security == "owner":
        parsed = Security()
    elif security == "everyone":
        parsed = Security(everyone=True)
    elif security.startswith("group:") and security != "group:":
        parsed = Security(groups=(security.removeprefix("group:"),))
    else:
        raise _bad(f'security is "owner", "group:NAME", "everyone" or a Security, not {security!r}')
    if sys.platform != "win32":
        parsed.resolve()  # what is wrong should fail here, before anything is created
    return parsed


def _id_of(who: str | int, what: str, look_up: Callable[[str], int]) -> int:
    """Return the number of a user or group; text that is no name but a number counts as that, as in chown."""
    if isinstance(who, bool) or not isinstance(who, (str, int)):
        raise TypeError(f"a {what} is a name or a number, not {type(who).__name__}")
    if isinstance(who, str):
        try:
            return look_up(who)
        except (KeyError, ValueError):  # ValueError: a NUL, or what no name can hold
            if not (who.isascii() and who.isdigit()):
                raise _bad(f"there is no {what} {who!r} on this system") from None
            who = int(who)
    if not 0 <= who < _NO_ID:
        raise _bad(f"a {what}'s number is 0 to {_NO_ID - 1}, not {who}")
    return who


def _uid_of_name(name: str) -> int:
    if sys.platform == "win32":
        raise KeyError(name)
    import pwd  # here, for this module is imported on Windows too

    return pwd.getpwnam(name).pw_uid


def _gid_of_name(name: str) -> int:
    if sys.platform == "win32":
        raise KeyError(name)
    import grp

    return grp.getgrnam(name).gr_gid


def _bad(detail: str) -> PipeArgumentError:
    return PipeArgumentError(WinError.INVALID_PARAMETER, detail=detail)


# --- What `listen` and `connect` take --------------------------------------------------------------------------


class ListenOptions(TypedDict, total=False):
    """What `listen` may be asked for, beside `mode` and `exclusive`, in every face. The defaults: `listen_options`."""

    access: Direction
    max_instances: int | None
    in_buffer_size: int
    out_buffer_size: int
    default_timeout: float | None
    security: str | Security
    max_message_size: int | None
    remote: Remote | None
    allow: str | Iterable[str]
    require_encryption: bool
    samba_dir: str | os.PathLike[str] | None
    traceable: bool


class ServeOptions(ListenOptions, total=False):
    """What `serve` may be asked for, beside `model`: what `listen` may, and what is a server's own."""

    mode: Mode
    exclusive: bool
    on_connect: Callable[[Any], object] | None
    on_disconnect: Callable[[Any], object] | None
    instances: int | None
    """Of model "overlapped"."""
    flush_timeout: float | None
    """Of model "threaded"."""


class ConnectOptions(TypedDict, total=False):
    """What `connect` may be asked for in every face, beside `mode`."""

    access: Access
    timeout: float | None
    verify_owner: bool
    wait_for_server: bool
    max_message_size: int | None
    remote: OtherMachine | None


@dataclass(frozen=True)
class CreateOptions:
    """What `listen` was asked for, checked and in Win32's numbers."""

    message_mode: bool
    """How the server's ends are read."""
    direction: int
    """PIPE_ACCESS_*."""
    max_instances: int
    """1 to 255; 255 is no limit."""
    in_buffer_size: int
    out_buffer_size: int
    default_timeout_ms: int
    security: Security
    rule: AccessRule | None
    """`security` in users' and groups' numbers, where there are such."""
    message_type: bool | None = None
    """How the pipe is written, if that is not as it is read."""
    max_message_size: int = LARGEST_MESSAGE
    """Of what the server's ends receive, in bytes."""
    remote: RemoteAccess | None = None
    """Which clients of other machines may come in; None: the pipe is not for them."""
    traceable: bool = True
    """Whether its owner may trace the pipe (`npipe trace`)."""

    @property
    def pipe_type(self) -> int:
        """PIPE_TYPE_*."""
        message = self.message_mode if self.message_type is None else self.message_type
        return PIPE_TYPE_MESSAGE if message else PIPE_TYPE_BYTE

    @property
    def read_mode(self) -> int:
        """PIPE_READMODE_*."""
        return PIPE_READMODE_MESSAGE if self.message_mode else 0


def listen_options(
    *,
    mode: Mode = "message",
    access: Direction = "duplex",
    max_instances: int | None = None,
    in_buffer_size: int = 65536,
    out_buffer_size: int = 65536,
    default_timeout: float | None = 0.05,
    security: str | Security = "owner",
    max_message_size: int | None = None,
    remote: Remote | None = None,
    allow: str | Iterable[str] = (),
    require_encryption: bool = False,
    samba_dir: str | os.PathLike[str] | None = None,
    traceable: bool = True,
) -> CreateOptions:
    """Check what `listen` is asked for; raises PipeArgumentError (87)."""
    checked = parse_security(security)
    network = network_options(remote, allow=allow, require_encryption=require_encryption, samba_dir=samba_dir)
    return CreateOptions(
        message_mode=is_message_mode(mode),
        direction=pipe_direction(access),
        max_instances=validate_instances(max_instances),
        in_buffer_size=validate_buffer_size(in_buffer_size, "in_buffer_size"),
        out_buffer_size=validate_buffer_size(out_buffer_size, "out_buffer_size"),
        default_timeout_ms=default_timeout_ms(default_timeout),
        security=checked,
        rule=None if sys.platform == "win32" else checked.resolve(),
        max_message_size=message_limit(max_message_size, stranger=checked.lets_others_in or network is not None),
        remote=network,
        traceable=flag(traceable, "traceable"),
    )


def network_options(
    remote: Remote | None,
    *,
    allow: str | Iterable[str],
    require_encryption: bool,
    samba_dir: str | os.PathLike[str] | None,
) -> RemoteAccess | None:
    """Return which clients of other machines may come in, if any; raises PipeArgumentError (87)."""
    if remote is None:
        if allow != () or require_encryption is not False or samba_dir is not None:
            raise PipeArgumentError(
                WinError.INVALID_PARAMETER,
                detail="allow, require_encryption and samba_dir are for clients of other machines",
                hint='let them in with remote="samba"',
            )
        return None
    if remote != "samba":
        raise _bad(f'remote is "samba" or None, not {remote!r}')
    return remote_access(allow=allow, require_encryption=require_encryption, samba_dir=samba_dir)


def refuse_unknown(call: str, options: Iterable[str], known: Iterable[str]) -> None:
    """Raise TypeError for an option that `call` does not have, and say which it has."""
    words = sorted(known)
    for option in options:
        if option not in words:
            raise TypeError(f"{call} got an unexpected keyword argument {option!r}; it takes {', '.join(words)}")


def check_handler(
    handler: object, what: str, argument: str, *, may_be_async: bool, with_connection: bool = False
) -> None:
    """Raise TypeError for what a server cannot call with one argument, `argument`; `what` is its own name.

    `with_connection`: a second one may be the client's Connection.

    Without `may_be_async` a coroutine function is refused too: nobody would await what it returns.
    """
    if not callable(handler):
        raise TypeError(f"{what} is a function that takes {argument}, not {type(handler).__name__}")
    function: Any = handler
    while isinstance(function, functools.partial):
        function = function.func
    functions = (function, getattr(type(function), "__call__", None))  # noqa: B004 - an object's own may be async
    if any(inspect.isasyncgenfunction(function) or inspect.isgeneratorfunction(function) for function in functions):
        raise TypeError(f"{what} is a generator function: return the one result, and do not yield")
    if not may_be_async and any(inspect.iscoroutinefunction(function) for function in functions):
        raise TypeError(f"{what} is a coroutine function (async def), which nobody awaits here: use npipe.aio.serve")
    signature = handler_signature(handler)
    if signature is None:
        return
    for arguments in ((None,), (None, None))[: 1 + with_connection]:
        with contextlib.suppress(TypeError):
            signature.bind(*arguments)
            return
    more = ", and may take the client's Connection too" if with_connection else ""
    raise TypeError(f"{what} is called with one argument, {argument}{more}, and this one takes {signature}")


def handler_signature(handler: Callable[..., Any]) -> inspect.Signature | None:
    """Return what a handler takes; None if it does not tell, as some built-in ones do not.

    Of a function in the place of another one (functools.wraps) it is its own, and the other one's only if it takes
    whatever comes (*args), to hand it on.
    """
    function: Any = handler
    seen: list[Any] = []  # one may wrap itself
    bound = inspect.ismethod(function)
    if bound:
        function = function.__func__
    while True:
        try:
            signature = inspect.signature(function, follow_wrapped=False)
        except (TypeError, ValueError):
            signature = None
        parameters = () if signature is None else tuple(signature.parameters.values())
        if signature is not None and not any(one.kind is one.VAR_POSITIONAL for one in parameters):
            break
        seen.append(function)
        inner = getattr(function, "__wrapped__", None)
        if not callable(inner) or any(inner is one for one in seen):
            return _usual_signature(handler)
        function = inner
    if bound:  # without self
        return signature.replace(parameters=parameters[1:])
    return signature


def _usual_signature(handler: Callable[..., Any]) -> inspect.Signature | None:
    try:
        return inspect.signature(handler)
    except (TypeError, ValueError):
        return None


_F = TypeVar("_F", bound="Callable[..., Any]")


def takes_listen_options(function: _F) -> _F:
    """Let a function that takes **options tell by its signature which, and their defaults."""
    own = inspect.signature(function)
    parameters = [one for one in own.parameters.values() if one.kind is not one.VAR_KEYWORD]
    others = inspect.signature(listen_options).parameters
    parameters += [one for name, one in others.items() if name in ListenOptions.__annotations__]
    function.__signature__ = own.replace(parameters=parameters)  # type: ignore[attr-defined]  # inspect asks for it
    return function


# --- What is told in return ------------------------------------------------------------------------------------


class Peek(NamedTuple):
    """What waits in a pipe, looked at without taking it (PeekNamedPipe, SEMANTICS §7)."""

    data: bytes
    """The first bytes, as many as were asked for and are there."""
    available: int
    """Bytes that can be read now, of all messages together."""
    left: int
    """Bytes of the first message beyond `data`; 0 on a byte pipe."""


@dataclass(frozen=True)
class Peer:
    """The process at the other end, as it was when it connected (SEMANTICS §11)."""

    pid: int
    """Its process id, in this process's view; 0 when it cannot be seen from here."""
    uid: int | None
    """Its effective user id; None where there is no such number (Windows, another machine)."""
    user: str | None
    """Its user's name; None when unknown."""
    host: str
    """Its machine's name, or the address of another machine; this machine's name for a local peer."""
    domain: str | None = None
    """The domain or machine that the user is of, as Samba tells it; None for a local peer."""
    local_user: str | None = None
    """The user of this system that Samba takes a client of another machine for; None for a local peer."""
    sids: tuple[str, ...] = ()
    """The SIDs of a client of another machine, in text, the user's own first; none for a local peer."""
    address: str | None = None
    """The network address of a client of another machine; None for a local peer."""
    encrypted: bool = False
    """Whether a client of another machine has opened the pipe over an encrypted connection."""
    kind: Literal["user", "guest", "anonymous"] = "user"
    """Whether it has proved who it is: only a "user" has. The name of a guest says nothing."""
    origin: Literal["local", "samba", "smb"] = "local"
    """Where it is: on this machine, or on another one; "samba" is a client through Samba, "smb" a client's server."""


@dataclass(frozen=True)
class PipeInfo:
    """What GetNamedPipeInfo and GetNamedPipeHandleState tell (SEMANTICS §9.2, §9.3)."""

    name: str
    r"""The full name, `\\.\pipe\NAME`."""
    type: Mode
    """How it is written."""
    read_mode: Mode
    """How this end reads it."""
    direction: Direction
    """Which way it carries data, as the server sees it, on both ends."""
    is_server: bool
    """Whether this is the server's end."""
    in_buffer_size: int
    """Quota from client to server in bytes, as given at creation; the same on both ends."""
    out_buffer_size: int
    """Quota from server to client in bytes, as given at creation; the same on both ends."""
    max_instances: int | None
    """How many instances it may have; None for no limit."""
    instances: int
    """How many it has now."""


@dataclass(frozen=True)
class PipeListing:
    """One process's share of a pipe, as `list_pipes` tells it."""

    name: str
    r"""The full name, `\\.\pipe\NAME`."""
    type: Mode | None
    """How it is written; None where the system does not tell (Windows)."""
    direction: Direction | None
    """Which way it carries data, as the server sees it; None where the system does not tell."""
    instances: int
    """How many instances exist now."""
    max_instances: int | None
    """How many there may be; None for no limit."""
    pid: int | None
    """The process that owns them; None where the system does not tell."""
    user: str | None
    """That process's user: the name, or the number where it has none; None where the system does not tell."""
