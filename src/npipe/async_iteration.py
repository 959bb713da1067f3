"""Iterating over what comes, until there is an end: `async for` on pipes and listeners."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, NoReturn, TypeVar

from npipe.errors import PipeClosedError, WinError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

__all__ = ["UntilClosed", "end_of_iteration", "peer_closed"]

T = TypeVar("T")


def peer_closed(error: PipeClosedError) -> bool:
    """Whether it says that the peer has closed, and everything is read."""
    return error.winerror == WinError.BROKEN_PIPE


def end_of_iteration() -> NoReturn:
    """Raise what ends an iteration over a pipe: the peer has closed for writing alone."""
    raise PipeClosedError(WinError.BROKEN_PIPE)


class UntilClosed(Generic[T]):
    """What `following` gives, until it raises a PipeClosedError that is `over`.

    Not a generator, which would be at its end once a step of it is cancelled: here the next step goes on.
    """

    __slots__ = ("_following", "_over")

    def __init__(self, following: Callable[[], Awaitable[T]], over: Callable[[PipeClosedError], bool]) -> None:
        self._following = following
        self._over = over

    def __aiter__(self) -> UntilClosed[T]:
        return self

    async def __anext__(self) -> T:
        try:
            return await self._following()
        except PipeClosedError as error:
            if not self._over(error):
                raise
            raise StopAsyncIteration from None
