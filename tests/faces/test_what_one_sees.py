"""What one sees of an object, in every face: attributes, repr, a call of its class, the verbs of the other kind."""

from __future__ import annotations

import asyncio
import copy
import os
import pydoc
import re
import sys
from typing import TYPE_CHECKING, Any

import anyio
import pytest

import npipe
import npipe.aio
import npipe.anyio
from npipe.win32 import win32event, win32pipe

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.conftest import Ends

PIPE = {"abort", "close", "closed", "fileno", "flush", "info", "name", "peek", "peer", "stats"}
MESSAGE = PIPE | {
    "discard_reply",
    "max_message_size",
    "more_data",
    "recv",
    "recv_into",
    "recv_view",
    "reserve",
    "send",
    "send_parts",
    "transact",
}
STREAM = PIPE | {"read", "readinto", "write"}
LISTENER = {"accept", "close", "closed", "name", "stats"}
SERVER = {"clients", "close", "connections", "name", "stats", "wait"}
CONNECTION = {"data", "number", "peer", "pid", "requests", "uid", "user"}
STREAMS = {"aclose", "extra", "extra_attributes", "receive", "send", "send_eof"}

ME = os.getpid()
BACKENDS = ["asyncio"] if sys.platform == "win32" else ["asyncio", "trio"]


def public(thing: object) -> set[str]:
    """What completion offers of a thing; all of it is there."""
    names = {one for one in dir(thing) if not one.startswith("_")}
    refused = {"stats"} if sys.platform == "win32" else set()  # nobody counts there, and it says so
    assert all(hasattr(thing, one) for one in names - refused)
    return names


# ---- Attributes


def test_a_pipe_has_the_documented_names_only(ends: Callable[..., Ends]) -> None:
    messages, streams = ends(), ends(mode="byte")
    for pipe in messages.client, messages.server:
        assert public(pipe) == public(type(pipe)) == public(npipe.MessagePipe) == MESSAGE
    for pipe in streams.client, streams.server:
        assert public(pipe) == public(type(pipe)) == public(npipe.StreamPipe) == STREAM | {"makefile"}
    assert public(messages.listener) == public(npipe.Listener) == LISTENER


def test_an_async_pipe_has_the_documented_names_only(name: str) -> None:
    async def main() -> None:
        async with npipe.aio.listen(name) as listener, await npipe.aio.connect(name) as pipe:
            assert public(pipe) == MESSAGE | {"busy_wait"}
            assert public(npipe.aio.MessagePipe) == MESSAGE
            assert public(listener) == LISTENER
            (await listener.accept()).abort()
        async with npipe.aio.listen(name, mode="byte") as bytes_, await npipe.aio.connect(name, mode="byte") as stream:
            assert public(stream) == STREAM | {"busy_wait"}
            assert public(npipe.aio.StreamPipe) == STREAM
            (await bytes_.accept()).abort()

    asyncio.run(main())


@pytest.mark.parametrize("backend", BACKENDS)
def test_anyio_s_streams_have_anyio_s_names_only(name: str, backend: str) -> None:
    async def main() -> None:
        kinds: tuple[Any, ...] = ("message", "byte")
        for mode in kinds:
            listener: Any = await npipe.anyio.listen(name, mode=mode)
            async with listener, await npipe.anyio.connect(name, mode=mode) as stream, await listener.accept():
                assert public(stream) == STREAMS
                assert public(listener) == {"accept", "aclose", "extra", "extra_attributes", "serve"}

    anyio.run(main, backend=backend)


@pytest.mark.parametrize("model", ["threaded", "overlapped", "completion"])
def test_a_server_and_its_connections_have_the_documented_names_only(name: str, model: Any) -> None:
    seen: list[set[str]] = []

    def shout(request: bytes, connection: npipe.Connection) -> bytes:
        seen.append(public(connection))
        return request.upper()

    with npipe.serve(name, shout, model=model) as server:
        assert npipe.call(name, b"x") == b"X"
        assert public(server) == SERVER
    assert seen == [CONNECTION]


def test_an_async_server_has_the_documented_names_only(name: str) -> None:
    seen: list[set[str]] = []

    def shout(request: bytes, connection: npipe.Connection) -> bytes:
        seen.append(public(connection))
        return request.upper()

    async def main() -> None:
        async with await npipe.aio.serve(name, shout) as server:
            assert await npipe.aio.call(name, b"x") == b"X"
            assert public(server) == SERVER

    asyncio.run(main())
    assert seen == [CONNECTION]


def test_win32_s_objects_have_pywin32_s_names_only(name: str) -> None:
    pipe = win32pipe.CreateNamedPipe(name, 3, 4, 255, 0, 0, 0, None)
    event = win32event.CreateEvent(None, True, False, None)
    for handle in pipe, event:
        assert public(handle) == {"Close", "Detach", "close", "handle"}
    pipe.Close()


def test_help_has_the_documented_methods_and_no_other_kind_s(ends: Callable[..., Ends]) -> None:
    text = pydoc.plain(pydoc.render_doc(ends().client))
    assert "recv(" in text
    assert "makefile" not in text
    assert "readinto" not in text


# ---- The other kind's verbs


def test_a_stream_s_verb_on_a_message_pipe_names_recv_and_mode(ends: Callable[..., Ends]) -> None:
    pipe = ends().client
    for verb, instead in (("read", "recv()"), ("readline", "recv()"), ("write", "send()"), ("makefile", "recv()")):
        with pytest.raises(AttributeError, match=re.escape(f"has no {verb}(): use {instead}")) as caught:
            getattr(pipe, verb)
        assert 'mode="byte"' in str(caught.value)
        assert not hasattr(pipe, verb)


def test_a_message_pipe_s_verb_on_a_stream_names_read_and_mode(ends: Callable[..., Ends]) -> None:
    pipe = ends(mode="byte").client
    for verb, instead in (("recv", "read()"), ("send", "write()"), ("transact", "write() and read()")):
        with pytest.raises(AttributeError, match=re.escape(f"has no {verb}(): use {instead}")) as caught:
            getattr(pipe, verb)
        assert 'mode="message"' in str(caught.value)


def test_the_other_kind_s_verbs_are_explained_on_event_loops_too(name: str) -> None:
    async def main() -> None:
        async with npipe.aio.listen(name), await npipe.aio.connect(name) as pipe:
            with pytest.raises(AttributeError, match=r'use recv\(\).*mode="byte"'):
                pipe.read  # type: ignore[attr-defined]  # noqa: B018
        async with npipe.aio.listen(name, mode="byte"), await npipe.aio.connect(name, mode="byte") as stream:
            with pytest.raises(AttributeError, match=r'use write\(\).*mode="message"'):
                stream.send  # type: ignore[attr-defined]  # noqa: B018

    asyncio.run(main())


def test_what_no_pipe_has_is_python_s_own_error(ends: Callable[..., Ends]) -> None:
    for kind in "message", "byte":
        name = {"message": "MessagePipe", "byte": "StreamPipe"}[kind]
        with pytest.raises(AttributeError, match=f"^'{name}' object has no attribute 'open'"):
            ends(mode=kind).client.open()


def test_on_event_loops_and_in_pools_it_has_the_public_name_too(name: str) -> None:
    async def main() -> None:
        async with npipe.aio.listen(name), await npipe.aio.connect(name) as pipe:
            with pytest.raises(AttributeError, match=r"^'MessagePipe' object has no attribute 'open'"):
                pipe.open()  # type: ignore[attr-defined]

    asyncio.run(main())
    with npipe.serve(name, bytes.upper), npipe.Pool(name) as pool, pool.connection() as lent:
        with pytest.raises(AttributeError, match=r"^'MessagePipe' object has no attribute 'open'"):
            lent.open()  # type: ignore[attr-defined]
        with pytest.raises(TypeError, match="cannot pickle or copy MessagePipe objects"):
            copy.copy(lent)


def test_a_class_of_somebody_else_keeps_its_name() -> None:
    class Fake(npipe.MessagePipe):
        pass

    assert Fake.__qualname__.endswith("<locals>.Fake")


def test_text_is_refused_with_what_to_do_in_every_face(ends: Callable[..., Ends], name: str) -> None:
    text: Any = "text"

    async def main() -> None:
        async with npipe.aio.listen(name), await npipe.aio.connect(name) as pipe:
            for call in (pipe.send, pipe.transact):
                with pytest.raises(TypeError, match=r"not str: encode the text \(text\.encode\(\)\)"):
                    await call(text)

    asyncio.run(main())
    for use in (ends().client.send, ends().client.transact, ends(mode="byte").client.write):
        with pytest.raises(TypeError, match=r"not str: encode the text \(text\.encode\(\)\)"):
            use(text)
    with pytest.raises(TypeError, match=r"not str: encode the text"):
        npipe.call(name, text)
    with pytest.raises(TypeError, match="a bytes-like object is required, not 'int'"):
        ends().client.send(5)


# ---- Calls of a class


def test_a_class_whose_objects_a_function_makes_names_that_function(ends: Callable[..., Ends]) -> None:
    messages, streams = ends(), ends(mode="byte")
    classes: tuple[tuple[Any, str], ...] = (
        (npipe.Pipe, "npipe.connect()"),
        (npipe.MessagePipe, "npipe.connect()"),
        (npipe.StreamPipe, 'npipe.connect(mode="byte")'),
        (type(messages.client), "npipe.connect()"),
        (type(streams.client), 'npipe.connect(mode="byte")'),
        (npipe.Listener, "npipe.listen()"),
        (npipe.Connection, "a server"),
        (npipe.aio.Pipe, "npipe.aio.connect()"),
        (npipe.aio.MessagePipe, "npipe.aio.connect()"),
        (npipe.aio.StreamPipe, 'npipe.aio.connect(mode="byte")'),
        (npipe.aio.Listener, "npipe.aio.listen()"),
        (npipe.aio.Server, "npipe.aio.serve()"),
    )
    for kind, function in classes:
        for arguments in ((), (r"\\.\pipe\shout",)):
            if sys.platform == "win32" and arguments and kind in (type(messages.client), type(streams.client)):
                continue
            with pytest.raises(TypeError, match="not by calling the class") as caught:
                kind(*arguments)
            assert f"are made by {function}" in str(caught.value)


def test_the_class_of_an_async_pipe_names_the_function_too(name: str) -> None:
    async def main() -> type:
        async with npipe.aio.listen(name), await npipe.aio.connect(name) as pipe:
            return type(pipe)

    with pytest.raises(TypeError, match=r"npipe\.aio\.MessagePipe objects are made by npipe\.aio\.connect\(\)"):
        asyncio.run(main())()


def test_anyio_s_classes_take_no_names() -> None:
    text: Any = r"\\.\pipe\shout"
    for kind, function in (
        (npipe.anyio.MessageStream, "npipe.anyio.connect()"),
        (npipe.anyio.PipeByteStream, "npipe.anyio.connect("),
        (lambda name: npipe.anyio.PipeListener(name, npipe.anyio.MessageStream), "npipe.anyio.listen()"),
    ):
        with pytest.raises(TypeError, match=r"is made of an npipe\.aio\.\w+, not of str") as caught:
            kind(text)
        assert function in str(caught.value)


# ---- Reprs


def test_a_pipe_s_repr_has_its_kind_name_state_direction_side_and_peer(ends: Callable[..., Ends]) -> None:
    for mode, kind in (("message", "npipe.MessagePipe"), ("byte", "npipe.StreamPipe")):
        listener, server, client = ends(mode=mode)
        name = f"r'{client.name}'"
        assert eval(name) == client.name
        assert repr(client) == f"<{kind} {name}, open, duplex, client's end, server is process {ME}>"
        assert repr(server) == f"<{kind} {name}, open, duplex, server's end, client is process {ME}>"
        client.close()
        assert repr(client) == f"<{kind} {name}, closed>"
        assert repr(server).startswith(f"<{kind} {name}, open, duplex, server's end")  # its peer has gone: no error
        listener.close()


def test_a_stream_on_a_message_pipe_says_so(ends: Callable[..., Ends]) -> None:
    _, server, client = ends(client_mode="byte")
    assert ", open, message pipe read as bytes, duplex, client's end, " in repr(client)
    assert ", open, duplex, server's end, " in repr(server)


def test_the_direction_is_the_pipe_s_which_is_the_server_s(name: str) -> None:
    with npipe.listen(name, access="inbound") as listener, npipe.connect(name, access="write") as client:
        with listener.accept(5) as server:
            assert ", open, inbound, client's end, " in repr(client)
            assert ", open, inbound, server's end, " in repr(server)


def test_a_name_with_other_characters_is_escaped_once() -> None:
    for name in (r"\\.\pipe\it's", "\\\\?\\pipe\\a\nb\x1b", "\\\\?\\pipe\\a\udcff"):
        with npipe.listen(name) as listener:
            shown = repr(listener).removeprefix("<npipe.Listener ").partition(", listening")[0]
            assert shown == repr(listener.name)


def test_a_listener_s_repr_has_mode_direction_and_limit(name: str) -> None:
    with npipe.listen(name, mode="byte", access="inbound", max_instances=3) as listener:
        assert repr(listener) == f"<npipe.Listener r'{name}', listening, byte mode, inbound, at most 3 at one time>"
    assert repr(listener) == f"<npipe.Listener r'{name}', closed>"
    with npipe.listen(name) as other:
        assert repr(other).endswith(", listening, message mode, duplex, any number of clients>")


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_reprs_of_the_async_faces_are_like_those(name: str, backend: str) -> None:
    async def main() -> None:
        shown = f"r'{name}'"
        async with npipe.aio.listen(name) as listener, await npipe.aio.connect(name) as client:
            async with await listener.accept() as server:
                about = "open, duplex, client's end, server is process"
                assert repr(client) == f"<npipe.aio.MessagePipe {shown}, {about} {ME}>"
                assert "server's end, client is process" in repr(server)
                stream = npipe.anyio.MessageStream(client)
                assert repr(stream) == f"<npipe.anyio.MessageStream {shown}, {about} {ME}>"
            assert repr(server) == f"<npipe.aio.MessagePipe {shown}, closed>"
            assert repr(listener).startswith(f"<npipe.aio.Listener {shown}, listening, message mode, duplex")
        async with await npipe.anyio.listen(name) as streams:
            assert repr(streams).startswith(f"<npipe.anyio.PipeListener {shown}, listening, message mode, duplex")

    anyio.run(main, backend=backend)


@pytest.mark.parametrize("model", ["threaded", "overlapped", "completion"])
def test_a_server_s_repr_and_stats_can_be_read(name: str, model: Any) -> None:
    with npipe.serve(name, bytes.upper, model=model) as server, npipe.connect(name) as pipe:
        assert pipe.transact(b"x", timeout=20) == b"X"
        assert pipe.transact(b"x", timeout=20) == b"X"
        assert server.clients == 1
        assert f" r'{name}', listening, 1 client, " in repr(server)
    assert server.stats == npipe.ServerStats(answered=2, failed=0, clients=1)
    assert repr(server.stats) == "ServerStats(answered=2, failed=0, clients=1)"


def test_an_error_s_repr_is_its_kind_and_its_text() -> None:
    with pytest.raises(npipe.PipeNotFoundError) as caught:
        npipe.connect(r"\\.\pipe\nobody-there", timeout=0)
    error = caught.value
    assert repr(error) == f"<PipeNotFoundError: {error}>"
    assert r"'\\.\pipe\nobody-there'" in repr(error)
    assert error.filename == error.pipe_name == r"\\.\pipe\nobody-there"
    assert npipe.PipeTimeoutError().filename is None
