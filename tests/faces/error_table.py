"""What a table of errors is made of: the two faces behind one, a case, and what is raised and said."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import os
import pickle
import pwd
import re
import subprocess
import sys
import textwrap
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

import npipe
import npipe.aio
from npipe import errors
from tests.helpers import CHECKOUT, DEADLINE, blocked

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

__all__ = ["CASES", "SOON", "Case", "Face", "case", "expected_of", "provoke", "shown"]

SOON = 0.05  # seconds after which what never comes is given up


class Face:
    """One of the two faces, behind calls that are awaited in both."""

    def __init__(self, kind: str, name: str) -> None:
        self.kind = kind
        self.name = name
        self.module: Any = {"sync": npipe, "aio": npipe.aio}[kind]
        self._stack = contextlib.AsyncExitStack()
        self._processes: list[subprocess.Popen[bytes]] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()
        for process in self._processes:
            process.kill()
            process.communicate()

    async def do(self, function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        """Make a call: in a thread, or awaited."""
        if self.kind == "sync":
            return await asyncio.to_thread(function, *arguments, **options)
        result = function(*arguments, **options)
        return await result if inspect.isawaitable(result) else result

    def _close_later(self, thing: Any) -> Any:
        self._stack.push_async_callback(self.do, thing.close)
        return thing

    async def listen(self, **options: Any) -> Any:
        return self._close_later(await self.do(self.module.listen, self.name, **options))

    async def connect(self, **options: Any) -> Any:
        return self._close_later(await self.do(self.module.connect, self.name, **options))

    async def serve(self, handler: Any, **options: Any) -> Any:
        return self._close_later(await self.do(self.module.serve, self.name, handler, **options))

    async def ends(self, mode: str = "message", client: str | None = None, **options: Any) -> tuple[Any, Any]:
        """Return a server's end and a client's."""
        listener = await self.listen(mode=mode, **options)
        pipe = await self.connect(mode=client or mode, access=options.get("access", "duplex"))
        return self._close_later(await self.do(listener.accept, timeout=5)), pipe

    async def while_waiting(self, call: Callable[[], Any], then: Callable[[], Any]) -> Any:
        """Begin a call that waits, do something else, and return what becomes of the call."""
        if self.kind == "sync":
            background = await asyncio.to_thread(blocked, call)
            await self.do(then)
            return await asyncio.to_thread(background.result)
        began = asyncio.ensure_future(self.do(call))
        for _ in range(3):  # the call waits when it has had its turn
            await asyncio.sleep(0)
        await self.do(then)
        return await asyncio.wait_for(began, DEADLINE)

    def process(self, script: str, *arguments: str) -> subprocess.Popen[bytes]:
        """Start a process that ends with the case, and wait until it has said that it is ready."""
        start = f"import os, pickle, signal, sys; sys.path.insert(0, {str(CHECKOUT)!r})\nimport npipe, npipe.aio\n"
        start += "npipe.connect\n"  # all of npipe is there before the process leaves itself without what imports need
        process = subprocess.Popen(
            [sys.executable, "-c", start + textwrap.dedent(script), self.name, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self._processes.append(process)
        return process

    async def raised_in(self, process: subprocess.Popen[bytes]) -> None:
        """Raise what a process has printed as a pickle."""
        out, _ = await asyncio.to_thread(process.communicate, timeout=20)
        raise pickle.loads(out)


Provoke = "Callable[[Face], Awaitable[object]]"


@dataclass
class Case:
    """One error."""

    title: str
    provoke: Callable[[Face], Awaitable[object]] = field(repr=False)
    kind: type[npipe.PipeError]
    code: int
    reason: str
    """What stands in the parentheses."""
    text: str | None = None
    """The words after the code, where they are not the code's own."""
    doing: str | None = None
    faces: tuple[str, ...] = ("sync", "aio")
    root_only: bool = False
    """It takes another user."""


CASES: list[Case] = []


def case(
    title: str, kind: type[npipe.PipeError], code: int, reason: str, **more: Any
) -> Callable[[Callable[[Face], Awaitable[object]]], Callable[[Face], Awaitable[object]]]:
    def add(provoke: Callable[[Face], Awaitable[object]]) -> Callable[[Face], Awaitable[object]]:
        CASES.append(Case(title, provoke, kind, code, reason, **more))
        return provoke

    return add


# ---- What is raised


async def raised(one: Case, kind: str, name: str) -> npipe.PipeError:
    """Provoke one error, and return it."""
    async with Face(kind, name) as face:
        try:
            await asyncio.wait_for(one.provoke(face), 20)
        except npipe.PipeError as error:
            return error
    raise AssertionError(f"{one.title}: nothing was raised")


def provoke(one: Case, kind: str, name: str) -> npipe.PipeError:
    """Provoke one error on an event loop of its own, and return it."""
    return asyncio.run(raised(one, kind, name))


def shown(error: npipe.PipeError) -> str:
    """Return an error's text, with words in capitals for what differs from run to run."""
    text = str(error)
    if error.pipe_name is not None:
        for name in (f"'{error.pipe_name}'", errors._shown(error.pipe_name)):
            text = text.replace(name, "'NAME'")
    who = os.geteuid()
    user = f"user {pwd.getpwuid(who).pw_name} (uid {who})"
    text = text.replace(os.environ["NPIPE_ROOT"], "ROOT").replace(user, "USER")
    return re.sub(r"process \d+", "process PID", text)


def expected_of(one: Case, error: npipe.PipeError) -> str:
    """Return what the text of this case's error is to be."""
    words = one.text or errors.error_from_code(one.code).strerror
    name = "" if error.pipe_name is None else ": 'NAME'"
    doing = "" if one.doing is None else f", while {one.doing}"
    if one.kind is npipe.PipeNameError:
        return f"[WinError {one.code}] {words} ({one.reason}){name}{doing}"
    return f"[WinError {one.code}] {words}{name}{doing} ({one.reason})"
