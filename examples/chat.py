r"""A chat for the users of a machine, on asyncio.

    python examples/chat.py server                  # until Ctrl-C
    python examples/chat.py join ann                # in other terminals; Ctrl-D leaves

A line that you type is one message, and everybody else gets it. Nobody waits for a slow reader: the server keeps up to
100 messages for each member, and lets one go who is further behind. Other users of the machine get in with
`server --everyone`.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import sys
import threading

import npipe
import npipe.aio

NAME = r"\\.\pipe\example-chat"

BEHIND = 100  # messages that are kept for a member
LONGEST = 4096  # bytes of a message


# ---- The server


class Room:
    """Who is there, and what is still to be told to each."""

    def __init__(self) -> None:
        self._members: dict[str, tuple[npipe.aio.MessagePipe, asyncio.Queue[str]]] = {}

    async def welcome(self, pipe: npipe.aio.MessagePipe) -> None:
        """Take a client from its first message, its name, until it leaves."""
        async with pipe:
            try:
                name = (await pipe.recv(timeout=10)).decode(errors="replace").strip()[:40]
                if not name.isprintable() or not name or name in self._members:
                    await pipe.send(f"* {name!r} is taken, or no name".encode())
                    return
            except npipe.PipeError:
                return
            messages: asyncio.Queue[str] = asyncio.Queue(BEHIND)
            others = ", ".join(sorted(self._members)) or "nobody else"
            self._members[name] = pipe, messages
            messages.put_nowait(f"* hello {name}; here: {others}")
            self._tell(f"* {name} has come", but=name)
            try:
                await self._converse(pipe, name, messages)
            finally:
                del self._members[name]
                self._tell(f"* {name} has left", but=name)

    async def _converse(self, pipe: npipe.aio.MessagePipe, name: str, messages: asyncio.Queue[str]) -> None:
        """Listen to a member, and tell it what the others say, until it leaves or is let go."""

        async def listen() -> None:
            with contextlib.suppress(npipe.PipeError):
                async for message in pipe:
                    self._tell(f"{name}: {message.decode(errors='replace')}", but=name)

        async def tell() -> None:
            with contextlib.suppress(npipe.PipeError):
                while True:
                    await pipe.send((await messages.get()).encode())

        tasks = [asyncio.create_task(listen()), asyncio.create_task(tell())]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _tell(self, text: str, *, but: str) -> None:
        print(text, flush=True)
        for name, (pipe, messages) in self._members.items():
            if name == but:
                continue
            try:
                messages.put_nowait(text)
            except asyncio.QueueFull:  # it does not read: what is kept for it goes, and so does it
                pipe.abort()


async def serve(name: str, security: str) -> None:
    """Run the room."""
    room = Room()
    async with npipe.aio.listen(name, security=security, max_message_size=LONGEST) as listener:
        print(f"the room is {listener.name}; Ctrl-C ends it", flush=True)
        async with asyncio.TaskGroup() as clients:
            async for pipe in listener:
                clients.create_task(room.welcome(pipe))


# ---- A member


def lines_typed() -> asyncio.Queue[str | None]:
    """Return a queue of the lines of standard input, and None at its end.

    A thread reads them: on Windows an event loop cannot. It reads the descriptor itself, whose lock nobody needs when
    the program ends while it waits.
    """
    lines: asyncio.Queue[str | None] = asyncio.Queue()
    loop = asyncio.get_running_loop()

    def read() -> None:
        with open(0, "rb", buffering=0, closefd=False) as raw, contextlib.suppress(RuntimeError):  # the loop has ended
            while line := raw.readline():
                loop.call_soon_threadsafe(lines.put_nowait, line.decode(errors="replace").rstrip("\r\n"))
            loop.call_soon_threadsafe(lines.put_nowait, None)

    threading.Thread(target=read, daemon=True).start()
    return lines


async def join(name: str, member: str, *, verify_owner: bool) -> None:
    """Be a member: print what comes, and send what is typed."""
    async with await npipe.aio.connect(name, wait_for_server=True, verify_owner=verify_owner) as pipe:
        await pipe.send(member.encode())

        async def talk() -> None:
            lines = lines_typed()
            while (line := await lines.get()) is not None:
                await pipe.send(line.encode()[:LONGEST])
            await pipe.flush()  # the server has read it all

        async def hear() -> None:
            async for message in pipe:
                print(message.decode(errors="replace"), flush=True)
            print("* the room is closed", flush=True)

        tasks = [asyncio.create_task(talk()), asyncio.create_task(hear())]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        for task in done:
            task.result()


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="A chat on pipes.")
    parser.add_argument("--name", default=NAME, help="the pipe's name (%(default)s)")
    roles = parser.add_subparsers(dest="role", required=True)
    serving = roles.add_parser("server", help="run the room")
    serving.add_argument("--everyone", action="store_true", help="let all users of this machine in")
    joining = roles.add_parser("join", help="join the room")
    joining.add_argument("member", help="your name there")
    joining.add_argument("--any-owner", action="store_true", help="the room may be another user's")
    arguments = parser.parse_args()
    try:
        if arguments.role == "server":
            asyncio.run(serve(arguments.name, "everyone" if arguments.everyone else "owner"))
        else:
            asyncio.run(join(arguments.name, arguments.member, verify_owner=not arguments.any_owner))
    except KeyboardInterrupt:
        pass
    except npipe.PipeError as error:  # there is no room, or there is one already
        sys.exit(str(error))


if __name__ == "__main__":
    main()
