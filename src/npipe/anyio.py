r"""Pipes as anyio's streams, on asyncio and on trio.

    async with await npipe.anyio.connect(r"\\.\pipe\shout") as stream:
        await stream.send(b"hello")

A message pipe is an ObjectStream of bytes, a byte pipe a ByteStream, and there is a listener of either. The errors are
anyio's: EndOfStream when the peer has closed, BrokenResourceError, ClosedResourceError, BusyResourceError. Needs anyio.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Generic, Literal, NoReturn, TypeVar, Unpack, overload

import anyio
import anyio.abc
import anyio.lowlevel

from npipe import aio
from npipe._display import show_pipe
from npipe._process import refuse_copy
from npipe.errors import PipeClosedError, PipeStateError, WinError, short_write
from npipe.options import ListenOptions, check_count, takes_listen_options

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Mapping

    from npipe.options import ConnectOptions, Mode

__all__ = ["MessageStream", "PipeAttribute", "PipeByteStream", "PipeListener", "connect", "listen"]

S = TypeVar("S", "MessageStream", "PipeByteStream")

_ENDS = (WinError.BROKEN_PIPE, WinError.PIPE_NOT_CONNECTED, WinError.NO_DATA)


class PipeAttribute(anyio.TypedAttributeSet):
    """What a stream or a listener knows beside anyio's own attributes."""

    pipe: aio.Pipe = anyio.typed_attribute()
    """The pipe itself, with peer, info and peek."""
    name: str = anyio.typed_attribute()
    r"""Its full name, `\\.\pipe\NAME`."""


def _translated(error: PipeClosedError | PipeStateError, pipe: aio.Pipe, doing: str) -> Exception:
    """Return anyio's exception for one of ours, or ours if it has none."""
    if isinstance(error, PipeStateError):
        return anyio.BusyResourceError(doing) if error.winerror == WinError.BUSY else error
    if pipe.closed:
        return anyio.ClosedResourceError(str(error))
    if doing == "receiving from" and error.winerror in _ENDS:
        return anyio.EndOfStream(str(error))
    return anyio.BrokenResourceError(str(error))


def _check_kind(given: object, kind: type, what: str, made_by: str) -> None:
    """Raise TypeError for what a stream or a listener cannot be made of, a name say."""
    if not isinstance(given, kind):
        raise TypeError(
            f"{what} is made of an npipe.aio.{kind.__name__}, not of {type(given).__name__}: {made_by} returns one"
        )


class _Stream:
    """What the two kinds of stream share."""

    _pipe: aio.Pipe

    def __reduce__(self) -> NoReturn:
        """Raise TypeError: a stream can be neither pickled nor copied."""
        refuse_copy(self, "pass the pipe's name, and open it there")

    async def aclose(self) -> None:
        """Close this end; what was written stays readable for the peer. Cancelled, it is closed all the same."""
        await self._pipe.close()
        await anyio.lowlevel.checkpoint()

    def __repr__(self) -> str:
        return show_pipe(f"npipe.anyio.{type(self).__name__}", self._pipe)

    @property
    def extra_attributes(self) -> Mapping[Any, Callable[[], Any]]:
        """The pipe and its name."""
        return {PipeAttribute.pipe: lambda: self._pipe, PipeAttribute.name: lambda: self._pipe.name}


class MessageStream(_Stream, anyio.abc.ObjectStream[bytes]):
    """A message pipe: each object is a message.

    A cancelled receive has consumed nothing, and a cancelled send has sent all or nothing (npipe.aio.MessagePipe).
    """

    def __init__(self, pipe: aio.MessagePipe) -> None:
        _check_kind(pipe, aio.MessagePipe, "MessageStream", "npipe.anyio.connect()")
        self._pipe: aio.MessagePipe = pipe

    async def send(self, item: bytes) -> None:
        """Send `item` as one message; see npipe.aio.MessagePipe.send.

        Raises BrokenResourceError when the peer has gone, ClosedResourceError when this end is closed.
        """
        await anyio.lowlevel.checkpoint()
        try:
            await self._pipe.send(item)
        except (PipeClosedError, PipeStateError) as error:
            raise _translated(error, self._pipe, "sending to") from error

    async def receive(self) -> bytes:
        """Receive the next message; EndOfStream when the peer has closed and nothing is left.

        A message longer than `max_message_size` raises npipe's PipeMessageTooLargeError (234), for anyio has no error
        for it, and stays: the pipe itself (PipeAttribute.pipe) can read it.
        """
        await anyio.lowlevel.checkpoint()
        try:
            return await self._pipe.recv()
        except (PipeClosedError, PipeStateError) as error:
            raise _translated(error, self._pipe, "receiving from") from error

    async def send_eof(self) -> None:
        """Raise NotImplementedError: messages have no end but that of the pipe, and an empty one is one of them."""
        raise NotImplementedError("a message pipe cannot be closed for writing alone")


class PipeByteStream(_Stream, anyio.abc.ByteStream):
    """A pipe read as a stream of bytes."""

    def __init__(self, pipe: aio.StreamPipe) -> None:
        _check_kind(pipe, aio.StreamPipe, "PipeByteStream", 'npipe.anyio.connect(mode="byte")')
        self._pipe: aio.StreamPipe = pipe

    async def send(self, item: bytes) -> None:
        """Send all of `item`; see npipe.aio.StreamPipe.write.

        Raises BrokenResourceError when the peer has gone, ClosedResourceError when this end is closed, and
        PipeTimeoutError when PIPE_NOWAIT cuts it short (121).
        """
        await anyio.lowlevel.checkpoint()
        try:
            count = await self._pipe.write(item)
        except (PipeClosedError, PipeStateError) as error:
            raise _translated(error, self._pipe, "sending to") from error
        if count != len(item):
            raise short_write(self._pipe.name, count, len(item))

    async def receive(self, max_bytes: int = 65536) -> bytes:
        """Receive what is there, at least one byte and at most `max_bytes`.

        Raises EndOfStream when the peer has closed and nothing is left. On a pipe of message type an empty message is
        the end too. Raises PipeArgumentError (87) for a `max_bytes` below 1.
        """
        check_count(max_bytes, 1, sys.maxsize, "max_bytes")
        await anyio.lowlevel.checkpoint()
        try:
            data = await self._pipe.read(max_bytes)
        except (PipeClosedError, PipeStateError) as error:
            raise _translated(error, self._pipe, "receiving from") from error
        if not data:
            raise anyio.EndOfStream
        return data

    async def send_eof(self) -> None:
        """End what is sent, by an empty message; receiving goes on.

        Raises NotImplementedError on a pipe of byte type, which has no empty messages.
        """
        await anyio.lowlevel.checkpoint()
        if not self._pipe._is_message_type():  # noqa: SLF001
            raise NotImplementedError("a named pipe of byte type cannot be closed for writing alone")
        try:
            await self._pipe.flush()  # a reader of bytes takes an empty message together with what is before it
        except (PipeClosedError, PipeStateError) as error:
            raise _translated(error, self._pipe, "sending to") from error
        await self.send(b"")


class PipeListener(anyio.abc.Listener[S], Generic[S]):
    """A name on which clients are accepted, each of which is a stream."""

    def __init__(
        self, listener: aio.Listener[aio.MessagePipe] | aio.Listener[aio.StreamPipe], stream: Callable[[Any], S]
    ) -> None:
        _check_kind(listener, aio.Listener, "PipeListener", "npipe.anyio.listen()")
        self._listener = listener
        self._stream: Callable[[Any], S] = stream

    def __reduce__(self) -> NoReturn:
        """Raise TypeError: a listener can be neither pickled nor copied."""
        refuse_copy(self, "pass the pipe's name, and listen there")

    async def accept(self) -> S:
        """Wait for the next client, and return its stream. Raises ClosedResourceError when the listener is closed."""
        await anyio.lowlevel.checkpoint()
        try:
            pipe = await self._listener.accept()
        except PipeClosedError as error:
            raise anyio.ClosedResourceError(str(error)) from error
        stream: S = self._stream(pipe)
        return stream

    async def serve(self, handler: Callable[[S], Any], task_group: anyio.abc.TaskGroup | None = None) -> None:
        """Accept clients until cancelled; `handler` runs with each as a task, which closes the stream at its end.

        The tasks belong to `task_group`, or to one of its own.
        """

        async def handle(stream: S) -> None:
            async with stream:
                await handler(stream)

        async def accept_in(group: anyio.abc.TaskGroup) -> None:
            while True:
                group.start_soon(handle, await self.accept())

        if task_group is not None:
            await accept_in(task_group)
            return
        async with anyio.create_task_group() as own:
            await accept_in(own)

    async def aclose(self) -> None:
        """Stop listening; streams that were handed out live on."""
        self._listener.close()
        await anyio.lowlevel.checkpoint()

    def __repr__(self) -> str:
        return repr(self._listener).replace("npipe.aio.Listener", "npipe.anyio.PipeListener", 1)

    @property
    def extra_attributes(self) -> Mapping[Any, Callable[[], Any]]:
        """The pipe's name."""
        return {PipeAttribute.name: lambda: self._listener.name}


@overload
async def connect(
    name: str | os.PathLike[str], *, mode: Literal["message"] = "message", **options: Unpack[ConnectOptions]
) -> MessageStream: ...
@overload
async def connect(
    name: str | os.PathLike[str], *, mode: Literal["byte"], **options: Unpack[ConnectOptions]
) -> PipeByteStream: ...
async def connect(
    name: str | os.PathLike[str], *, mode: Mode = "message", **options: Unpack[ConnectOptions]
) -> MessageStream | PipeByteStream:
    """Connect to the pipe `name`: a stream of messages, or with `mode` "byte" one of bytes.

    The other `options` are those of npipe.connect.

    Returns:
        A MessageStream, or with mode="byte" a PipeByteStream.

    Raises:
        PipeError: all that npipe.connect raises.
    """
    pipe = await aio.connect(name, mode=mode, **options)
    return MessageStream(pipe) if isinstance(pipe, aio.MessagePipe) else PipeByteStream(pipe)


@overload
async def listen(
    name: str | os.PathLike[str],
    *,
    mode: Literal["message"] = "message",
    exclusive: bool = True,
    **options: Unpack[ListenOptions],
) -> PipeListener[MessageStream]: ...
@overload
async def listen(
    name: str | os.PathLike[str], *, mode: Literal["byte"], exclusive: bool = True, **options: Unpack[ListenOptions]
) -> PipeListener[PipeByteStream]: ...
@takes_listen_options
async def listen(
    name: str | os.PathLike[str], *, mode: Mode = "message", exclusive: bool = True, **options: Unpack[ListenOptions]
) -> PipeListener[MessageStream] | PipeListener[PipeByteStream]:
    """Create a pipe and listen on it: clients can connect as soon as this returns.

    Args:
        name: the pipe's name.
        mode: "message" or "byte": the pipe's type, and the kind of the streams.
        exclusive: the name must not exist yet.
        options: those of npipe.listen: `access`, `max_instances`, `in_buffer_size`, `out_buffer_size`,
            `default_timeout`, `security`, `max_message_size`, `remote`, `allow`, `require_encryption`, `samba_dir`,
            `traceable`.

    Returns:
        A PipeListener of MessageStreams, or with mode="byte" of PipeByteStreams.

    Raises:
        PipeError: all that npipe.listen raises.
    """
    listener = aio.listen(name, mode=mode, exclusive=exclusive, **options)
    await anyio.lowlevel.checkpoint()
    if mode == "byte":
        return PipeListener(listener, PipeByteStream)
    return PipeListener(listener, MessageStream)
