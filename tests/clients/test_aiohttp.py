"""aiohttp, aiodocker and pynvim, unmodified, over the Proactor loop's pipes: `npipe run` of programs that use them."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.timeout(60)


def run(program: str, folder: Path, libraries: Path, *arguments: str) -> str:
    """What `npipe run` of a program prints; arguments before "--" are the command's, the others the program's."""
    (folder / "program.py").write_text(textwrap.dedent(program), encoding="utf-8")
    at = arguments.index("--")
    done = subprocess.run(
        [sys.executable, "-m", "npipe", "run", *arguments[:at], "program.py", *arguments[at + 1 :]],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(libraries)},
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


SITE_AND_CONNECTOR = r"""
    import asyncio
    import sys

    import aiohttp
    from aiohttp import web


    async def echo(request):
        return web.Response(body=await request.read())


    async def shout(request):
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        async for message in socket:
            await socket.send_str(message.data.upper())
        return socket


    async def main(name):
        application = web.Application()
        application.router.add_post("/echo", echo)
        application.router.add_get("/shout", shout)
        runner = web.AppRunner(application)
        await runner.setup()
        site = web.NamedPipeSite(runner, name)
        await site.start()
        sent = bytes(range(256)) * 4000
        async with aiohttp.ClientSession(connector=aiohttp.NamedPipeConnector(path=name)) as session:

            async def one(number):
                async with session.post("http://localhost/echo", data=sent[number:]) as response:
                    return await response.read() == sent[number:]

            print(await asyncio.gather(*map(one, range(8))))
            async with session.get("http://localhost/nothing") as response:
                print(response.status)
            async with session.ws_connect("http://localhost/shout") as socket:
                await socket.send_str("a word")
                print(await socket.receive_str())
        await runner.cleanup()
        async with aiohttp.ClientSession(connector=aiohttp.NamedPipeConnector(path=name)) as session:
            try:
                await session.get("http://localhost/")
            except aiohttp.ClientConnectorError as error:
                print(type(error.os_error).__mro__[-4].__name__)


    asyncio.run(main(sys.argv[1]))
"""


def test_a_site_and_a_connector_of_aiohttp(aiohttp_folder: Path, tmp_path: Path, name: str) -> None:
    printed = run(SITE_AND_CONNECTOR, tmp_path, aiohttp_folder, "--", name)
    assert printed.splitlines() == [str([True] * 8), "404", "A WORD", "OSError"]


DOCKER = r"""
    import asyncio
    import sys

    import aiodocker
    from aiohttp import web


    async def answer(request):
        if request.path.endswith("/version"):
            return web.json_response({"ApiVersion": "1.43", "Version": "npipe"})
        return web.json_response([{"Id": "a" * 64, "Names": ["/one"]}])


    async def main(name):
        application = web.Application()
        application.router.add_get("/{path:.*}", answer)
        runner = web.AppRunner(application)
        await runner.setup()
        await web.NamedPipeSite(runner, name).start()
        async with aiodocker.Docker(url="npipe://" + name.replace("\\", "/")) as docker:
            print((await docker.version())["Version"])
            print([container.id[:2] for container in await docker.containers.list()])
        await runner.cleanup()


    asyncio.run(main(sys.argv[1]))
"""


def test_aiodocker_finds_its_engine(aiohttp_folder: Path, tmp_path: Path, name: str) -> None:
    assert run(DOCKER, tmp_path, aiohttp_folder, "--", name).splitlines() == ["npipe", "['aa']"]


NVIM = r"""
    import sys
    import threading

    import msgpack
    import pynvim
    import win32file
    import win32pipe

    name = sys.argv[1]
    pipe = win32pipe.CreateNamedPipe(name, 3, 0, 1, 65536, 65536, 0, None)
    TYPES = {name: {"id": number, "prefix": ""} for number, name in enumerate(("Buffer", "Window", "Tabpage"))}
    INFO = [1, {"version": {}, "functions": [], "ui_events": [], "types": TYPES, "error_types": {}}]


    def play():
        win32pipe.ConnectNamedPipe(pipe, None)
        unpacker = msgpack.Unpacker()
        while True:
            try:
                unpacker.feed(bytes(win32file.ReadFile(pipe, 65536)[1]))
            except win32file.error:
                return
            for kind, number, method, arguments in (one for one in unpacker if one[0] == 0):
                result = INFO if method == b"nvim_get_api_info" else [method, *arguments]
                win32file.WriteFile(pipe, msgpack.packb([1, number, None, result]))


    playing = threading.Thread(target=play, daemon=True)
    playing.start()
    nvim = pynvim.attach("socket", path=name)
    print(type(nvim._session._async_session._msgpack_stream.loop._loop).__name__)
    print(nvim.request("nvim_eval", "1 + 1"))
    nvim.close()
    playing.join(10)
    print(playing.is_alive())
"""


def test_pynvim_attaches_by_a_pipe(aiohttp_folder: Path, tmp_path: Path, name: str) -> None:
    printed = run(NVIM, tmp_path, aiohttp_folder, "--as-windows", "--also", "pynvim", "--", name)
    assert printed.splitlines() == ["ProactorEventLoop", "['nvim_eval', '1 + 1']", "False"]
