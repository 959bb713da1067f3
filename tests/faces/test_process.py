"""What belongs to one process: copying, pickling and giving away are refused in one sentence, in each face."""

from __future__ import annotations

import asyncio
import copy
import os
import pickle
import select
import subprocess
import sys
import types
from typing import TYPE_CHECKING, Any

import anyio
import pytest

import npipe
import npipe.aio
import npipe.anyio
from npipe.win32 import win32event, win32file, win32pipe

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.conftest import Ends

WAYS: dict[str, Callable[[Any], object]] = {
    "pickle": pickle.dumps,
    "old pickle": lambda thing: pickle.dumps(thing, 0),
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
}


def check(thing: Any, *, instead: str) -> None:
    for way in WAYS.values():
        with pytest.raises(TypeError, match="belong to this process") as caught:
            way(thing)
        text = str(caught.value)
        assert text.startswith(f"cannot pickle or copy {type(thing).__name__} objects, ")
        assert instead in text


def test_the_sync_face_says_to_pass_the_name(name: str, ends: Callable[..., Ends]) -> None:
    messages, streams = ends(), ends(mode="byte")
    for pipe in messages.client, messages.server, streams.client, streams.server:
        check(pipe, instead="npipe.connect")
    check(streams.client.makefile("rb", buffering=0), instead="npipe.connect")
    with npipe.listen(name) as listener:
        check(listener, instead="npipe.listen")


@pytest.mark.parametrize("model", ["threaded", "overlapped", "completion"])
def test_a_server_says_where_to_serve_instead(name: str, model: Any) -> None:
    connections: list[Any] = []
    with npipe.serve(name, bytes.upper, model=model, on_connect=connections.append) as server:
        check(server, instead="npipe.serve")
        assert npipe.call(name, b"x", timeout=20) == b"X"
    check(connections[0], instead="its number")


def test_the_win32_face_says_what_instead(name: str) -> None:
    handle = win32pipe.CreateNamedPipe(name, 3 | 0x40000000, 4, 255, 4, 4, 0, None)
    client = win32file.CreateFile(name, 0xC0000000, 0, None, 3, 0x40000000, None)
    for thing in handle, client, win32event.CreateEvent(None, True, False, None):
        check(thing, instead="DuplicateHandle")
    check(win32file.OVERLAPPED(), instead="a new OVERLAPPED")


def test_the_faces_for_event_loops_say_to_pass_the_name(name: str) -> None:
    async def main() -> None:
        async with npipe.aio.listen(name) as listener, await npipe.aio.connect(name) as client:
            check(listener, instead="npipe.aio.listen")
            async with await listener.accept() as server:
                check(server, instead="npipe.aio.connect")
                check(client, instead="npipe.aio.connect")
                check(npipe.anyio.MessageStream(client), instead="open it there")
                with pytest.raises(npipe.PipeStateError, match=r"has none.*subprocess\.PIPE") as caught:
                    client.fileno()
                assert caught.value.winerror == 50
        async with await npipe.aio.serve(name, bytes.upper) as serving:
            check(serving, instead="npipe.aio.serve")

    asyncio.run(main())


def test_a_subclass_that_knows_how_to_pickle_itself_may() -> None:
    class Knows(npipe.Listener[Any]):
        def __init__(self) -> None:
            pass

        def __reduce__(self) -> Any:
            return (int, (5,))

    assert pickle.loads(pickle.dumps(Knows())) == 5


@pytest.mark.parametrize("stream", ["stdin", "stdout", "stderr"])
@pytest.mark.parametrize("file", [False, True])
def test_a_pipe_as_a_childs_stream_is_refused_and_says_what_instead(
    ends: Callable[..., Ends], stream: str, file: bool
) -> None:
    pair = ends(mode="byte")
    given: Any = pair.client.makefile("rb" if stream == "stdin" else "wb") if file else pair.client
    with pytest.raises(npipe.PipeStateError, match=r"give the child subprocess\.PIPE") as caught:
        subprocess.Popen([sys.executable, "-c", "pass"], **{stream: given})
    assert caught.value.winerror == 50

    async def start() -> None:
        await asyncio.create_subprocess_exec(sys.executable, "-c", "pass", **{stream: given})

    with pytest.raises(npipe.PipeStateError, match=r"subprocess\.PIPE"):
        asyncio.run(start())

    async def run() -> None:
        await anyio.run_process([sys.executable, "-c", "pass"], **{stream: given})

    if stream != "stdin":
        with pytest.raises(npipe.PipeStateError, match=r"subprocess\.PIPE"):
            anyio.run(run)
    pair.server.write(b"usable")
    assert pair.client.read(100) == b"usable"


def test_a_handle_as_a_childs_stream_says_what_instead(name: str) -> None:
    handle = win32pipe.CreateNamedPipe(name, 3, 4, 255, 4, 4, 0, None)
    assert not hasattr(handle, "fileno"), "as on Windows, and programs ask for that"
    with pytest.raises(AttributeError, match=r"subprocess\.PIPE"):
        subprocess.Popen([sys.executable, "-c", "pass"], stdout=handle)  # type: ignore[call-overload]


def test_no_program_inherits_the_descriptor(ends: Callable[..., Ends]) -> None:
    descriptor = ends().client.fileno()
    assert not os.get_inheritable(descriptor)
    script = f"import os\ntry:\n os.fstat({descriptor})\nexcept OSError: print('not there')"
    done = subprocess.run([sys.executable, "-c", script], close_fds=False, capture_output=True, text=True, check=True)
    assert done.stdout == "not there\n"


def test_fileno_does_without_what_others_take_out_of_select(
    ends: Callable[..., Ends], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(select, "epoll")
    pair = ends()
    assert select.select([pair.client], [], [], 0)[0] == []
    pair.server.send(b"x")
    assert select.select([pair.client], [], [], 10)[0] == [pair.client]


@pytest.mark.parametrize(
    ("module", "question"), [("gevent.monkey", "is_module_patched"), ("eventlet.patcher", "is_monkey_patched")]
)
def test_serve_says_what_to_do_where_threads_are_green(
    name: str, monkeypatch: pytest.MonkeyPatch, module: str, question: str
) -> None:
    fake = types.ModuleType(module)
    setattr(fake, question, lambda _: True)
    monkeypatch.setitem(sys.modules, module, fake)
    with pytest.raises(npipe.PipeStateError, match=r"a process of its own.*thread=False") as caught:
        npipe.serve(name, bytes.upper)
    assert caught.value.winerror == 50
    with pytest.raises(npipe.PipeNotFoundError):
        npipe.connect(name)
    setattr(fake, question, lambda _: False)
    with npipe.serve(name, bytes.upper):
        assert npipe.call(name, b"x", timeout=20) == b"X"
