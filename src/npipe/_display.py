"""How objects show themselves to who explores them: reprs, attributes of the other kind of pipe, calls of a class."""

from __future__ import annotations

import inspect
from abc import ABCMeta
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn, Protocol

from npipe.options import PIPE_UNLIMITED_INSTANCES, direction_name

if TYPE_CHECKING:
    from collections.abc import Iterable

    from npipe.options import CreateOptions

__all__ = [
    "Elsewhere",
    "PipeType",
    "Traits",
    "listed",
    "literal",
    "of_messages",
    "of_streams",
    "refuse_construction",
    "show_listener",
    "show_pipe",
    "take_after",
]

_MADE_BY = {
    "npipe.MessagePipe": "npipe.connect() or a listener's accept()",
    "npipe.StreamPipe": 'npipe.connect(mode="byte") or a listener\'s accept()',
    "npipe.Pipe": "npipe.connect() or a listener's accept()",
    "npipe.Listener": "npipe.listen()",
    "npipe.Connection": "a server, for its handler",
    "npipe.aio.MessagePipe": "npipe.aio.connect() or a listener's accept()",
    "npipe.aio.StreamPipe": 'npipe.aio.connect(mode="byte") or a listener\'s accept()',
    "npipe.aio.Pipe": "npipe.aio.connect() or a listener's accept()",
    "npipe.aio.Listener": "npipe.aio.listen()",
    "npipe.aio.Server": "npipe.aio.serve()",
}
"""Public classes that no program calls, and what makes their objects."""


def refuse_construction(kind: str) -> NoReturn:
    """Raise TypeError for a call of a class whose objects a function makes; `kind` is its public name."""
    raise TypeError(f"{kind} objects are made by {_MADE_BY[kind]}, not by calling the class")


def literal(name: str) -> str:
    r"""Return a pipe's name as Python's source has it, as in r'\\.\pipe\shout': backslashes are not doubled."""
    return f"r'{name}'" if name.isprintable() and "'" not in name and not name.endswith("\\") else repr(name)


class Traits(NamedTuple):
    """What the repr of an open pipe tells."""

    is_server: bool
    direction: str
    message_type: bool
    peer: int | None
    """The process at the other end; None when it cannot be told any more."""


class _Shown(Protocol):
    """A pipe, as far as its repr goes."""

    @property
    def name(self) -> str: ...
    @property
    def closed(self) -> bool: ...
    def _traits(self) -> Traits | None: ...


def show_pipe(kind: str, pipe: _Shown) -> str:
    """Return a pipe's repr; `kind` is the public name of its class."""
    traits = None if pipe.closed else pipe._traits()  # noqa: SLF001 - it is there for this
    if traits is None:
        return f"<{kind} {literal(pipe.name)}, {'closed' if pipe.closed else 'open'}>"
    side, other = ("server", "client") if traits.is_server else ("client", "server")
    mode = "message pipe read as bytes, " if traits.message_type and kind.endswith("StreamPipe") else ""
    peer = "" if traits.peer is None else f", {other} is process {traits.peer}"
    return f"<{kind} {literal(pipe.name)}, open, {mode}{traits.direction}, {side}'s end{peer}>"


def show_listener(kind: str, name: str, options: CreateOptions, *, closed: bool) -> str:
    """Return a listener's repr; `kind` is the public name of its class."""
    mode = "message" if options.message_mode else "byte"
    most = options.max_instances
    limit = "any number of clients" if most >= PIPE_UNLIMITED_INSTANCES else f"at most {most} at one time"
    state = "closed" if closed else f"listening, {mode} mode, {direction_name(options.direction)}, {limit}"
    return f"<{kind} {literal(name)}, {state}>"


def take_after(kind: type, public: type) -> None:
    """Give npipe's own `kind` the name of the class `public`, for Python's errors, and its words, for help().

    Methods that only say "See Pipe.NAME." get those of the method.
    """
    if kind is not public and kind.__module__.startswith("npipe."):
        kind.__name__ = kind.__qualname__ = public.__name__
        if kind.__doc__ and public.__doc__ and kind.__module__.startswith("npipe.transports."):
            kind.__doc__ = f"{kind.__doc__.rstrip()}\n\n    {public.__doc__}"
    for name in (name for name in dir(public) if not name.startswith("_")):
        words = inspect.getattr_static(public, name).__doc__
        own: Any = inspect.getattr_static(kind, name)
        said = own.__doc__
        if (
            words
            and said
            and said.startswith(("See Pipe.", "See MessagePipe.", "See StreamPipe."))
            and not inspect.isgetsetdescriptor(own)
        ):
            own.__doc__ = words + said.partition("\n")[2]


class Elsewhere:
    """A method that a pipe has not, but those of the other kind have: an AttributeError that says what to use.

    Not in __getattr__, with which the calls of all other methods would take longer.
    """

    __slots__ = ("_hint", "_name")

    def __init__(self, hint: str) -> None:
        self._hint = hint

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, instance: object, owner: type) -> NoReturn:
        raise AttributeError(self._hint.format(self._name))


def of_streams(instead: str) -> Elsewhere:
    """Return what a message pipe has in the place of a stream's method."""
    return Elsewhere(
        f'a message pipe has no {{}}(): use {instead}, or open the pipe with mode="byte" to have it as a stream'
    )


def of_messages(instead: str) -> Elsewhere:
    """Return what a stream has in the place of a message pipe's method."""
    return Elsewhere(
        f'a pipe that was opened with mode="byte" has no {{}}(): use {instead}, or open it with mode="message" '
        "(of a message pipe only)"
    )


class PipeType(ABCMeta):
    """The class of pipe classes: dir() and help() have nothing of what a pipe has not."""

    def __dir__(cls) -> Iterable[str]:
        return listed(cls, super().__dir__())


def listed(kind: type, names: Iterable[str]) -> list[str]:
    """Return those `names` that a pipe of the class `kind` has."""
    missing = {name for one in kind.__mro__ for name, value in vars(one).items() if isinstance(value, Elsewhere)}
    return [name for name in names if name not in missing]
