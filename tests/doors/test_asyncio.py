"""The door of asyncio: the Proactor loop and its pipes, the default loop and policy, and that all of it ends."""

from __future__ import annotations

import asyncio
import asyncio.events
import asyncio.unix_events
import gc
import importlib
import os
import subprocess
import sys
import threading
import warnings
from typing import TYPE_CHECKING, Any

import pytest

from npipe import win32
from tests.doors.helpers import run
from tests.helpers import CHECKOUT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from npipe._doors import Installation

A: Any = asyncio  # with what the door puts there
NAMES = ("ProactorEventLoop", "IocpProactor", "windows_events", "windows_utils")
POLICIES = ("DefaultEventLoopPolicy", "WindowsProactorEventLoopPolicy", "WindowsSelectorEventLoopPolicy")
before_3_14 = pytest.mark.skipif(sys.version_info >= (3, 14), reason="asyncio warns of policies from Python 3.14 on")


def opened() -> Installation:
    return win32.install(pywin32=False, asyncio=True)


@pytest.fixture
def door() -> Iterator[Installation]:
    with opened() as installation:
        yield installation


def state() -> dict[str, object]:
    found: dict[str, object] = {
        f"{module.__name__}.{name}": value
        for module in (asyncio, asyncio.events, asyncio.unix_events)
        for name, value in vars(module).items()
    }
    found |= {name: module for name, module in sys.modules.items() if name.startswith("asyncio.")}
    return found


def differences(before: dict[str, object]) -> list[str]:
    after = state()
    return [name for name in before.keys() | after.keys() if before.get(name) is not after.get(name)]


class TestPrograms:
    def test_a_server_and_clients_as_they_are_written_for_windows(self, tmp_path: Path, name: str) -> None:
        program = r"""
            import asyncio
            import sys

            NAME = sys.argv[1]


            class Shout(asyncio.Protocol):
                def connection_made(self, transport):
                    self.transport = transport

                def data_received(self, data):
                    self.transport.write(data.upper())


            async def main():
                loop = asyncio.get_running_loop()
                assert isinstance(loop, asyncio.ProactorEventLoop)
                try:
                    await loop.create_pipe_connection(asyncio.Protocol, NAME)
                except FileNotFoundError as error:
                    print(error.winerror)
                [server] = await loop.start_serving_pipe(Shout, NAME)
                assert isinstance(server, asyncio.windows_events.PipeServer)
                try:
                    await loop.start_serving_pipe(Shout, NAME)
                except PermissionError as error:
                    print(error.winerror)
                reader = asyncio.StreamReader()
                protocol = asyncio.StreamReaderProtocol(reader)
                transport, made = await loop.create_pipe_connection(lambda: protocol, NAME)
                assert made is protocol
                writer = asyncio.StreamWriter(transport, protocol, reader, loop)
                writer.write(b"a line\n")
                print(await reader.readline(), transport.get_extra_info("addr") == NAME)
                writer.close()
                await writer.wait_closed()
                server.close()
                print(server.closed())


            asyncio.run(main())
        """
        assert run(tmp_path, program, arguments=(name,)).splitlines() == ["2", "5", r"b'A LINE\n' True", "True"]

    @pytest.mark.parametrize(
        "how",
        [
            "asyncio.run(main())",
            "asyncio.new_event_loop().run_until_complete(main())",
            "asyncio.Runner().run(main())",
            "asyncio.ProactorEventLoop().run_until_complete(main())",
            "asyncio.run(main(), debug=True)",
            pytest.param(
                "asyncio.get_event_loop_policy().new_event_loop().run_until_complete(main())", marks=before_3_14
            ),
            "import threading; t = threading.Thread(target=asyncio.run, args=(main(),)); t.start(); t.join()",
        ],
    )
    def test_the_default_loop_has_pipes(self, tmp_path: Path, name: str, how: str) -> None:
        program = f"""
            import asyncio, sys

            async def main():
                loop = asyncio.get_running_loop()
                [server] = await loop.start_serving_pipe(asyncio.Protocol, sys.argv[1])
                transport, _ = await loop.create_pipe_connection(asyncio.Protocol, sys.argv[1])
                transport.close()
                server.close()
                print(type(loop).__name__, await (await asyncio.create_subprocess_exec("true")).wait())

            {how}
        """
        assert run(tmp_path, program, arguments=(name,)) == "ProactorEventLoop 0\n"

    @before_3_14
    def test_the_policies_as_programs_set_them(self, tmp_path: Path) -> None:
        program = """
            import asyncio

            async def main():
                loop = asyncio.get_running_loop()
                return type(loop) is asyncio.SelectorEventLoop, isinstance(loop, asyncio.ProactorEventLoop)

            print(type(asyncio.get_event_loop_policy()) is asyncio.WindowsProactorEventLoopPolicy)
            asyncio.set_event_loop_policy(asyncio.WindowsSelectorEventLoopPolicy())
            print(asyncio.run(main()))
            asyncio.set_event_loop_policy(asyncio.WindowsProactorEventLoopPolicy())
            print(asyncio.run(main()))
            asyncio.set_event_loop_policy(None)
            print(asyncio.run(main()))
        """
        assert run(tmp_path, program).splitlines() == ["True", "(True, False)", "(False, True)", "(False, True)"]

    def test_a_loop_of_a_selector_has_no_pipes(self, tmp_path: Path) -> None:
        program = """
            import asyncio
            loop = asyncio.SelectorEventLoop()
            print(hasattr(loop, "create_pipe_connection"), isinstance(loop, asyncio.ProactorEventLoop))
            loop.close()
        """
        assert run(tmp_path, program) == "False False\n"

    def test_names_by_import_in_every_form(self, tmp_path: Path) -> None:
        program = """
            from asyncio import ProactorEventLoop, windows_events, windows_utils
            from asyncio.windows_events import IocpProactor, PipeServer
            from asyncio.windows_utils import PipeHandle, pipe
            import asyncio.windows_events as again
            from asyncio import *
            print(again is windows_events, again.ProactorEventLoop is ProactorEventLoop)
            print(windows_utils.PipeHandle is PipeHandle)
        """
        assert run(tmp_path, program) == "True True\nTrue\n"

    def test_npipes_own_loop_is_imported_first(self, tmp_path: Path) -> None:
        for first in ("npipe.aio", "npipe.anyio", "npipe.loops.current", "npipe.servers", "concurrent.futures"):
            program = f"import sys, {first}\nimport asyncio\nprint(asyncio.ProactorEventLoop.__name__)\n"
            assert run(tmp_path, program) == "ProactorEventLoop\n", first

    def test_without_the_door_nothing_is_there(self, tmp_path: Path) -> None:
        program = """
            import asyncio
            print([name for name in ("ProactorEventLoop", "windows_events") if hasattr(asyncio, name)])
            print(type(asyncio.new_event_loop()) is asyncio.SelectorEventLoop)
        """
        printed = run(tmp_path, program, "--no-asyncio", PYTHONWARNINGS="ignore")
        assert printed.splitlines() == ["[]", "True"]

    def test_a_program_that_does_without_asyncio_does_not_import_it(self, tmp_path: Path) -> None:
        assert run(tmp_path, "import sys; print('asyncio' in sys.modules)") == "False\n"

    def test_what_there_is_not_is_told_by_name_and_page(self, tmp_path: Path) -> None:
        program = """
            import asyncio
            for statement in (
                "asyncio.windows_utils.Popen",
                "from asyncio.windows_utils import Popen",
                "from asyncio.windows_events import Nonsense",
            ):
                try:
                    exec(statement)
                except (AttributeError, ImportError) as error:
                    print(type(error).__name__, error)
        """
        about = "(npipe has what pipes need: docs/porting.md)"
        assert run(tmp_path, program).splitlines() == [
            f"AttributeError module 'asyncio.windows_utils' has no attribute 'Popen' {about}",
            f"ImportError cannot import name 'Popen' from 'asyncio.windows_utils' {about}",
            f"ImportError cannot import name 'Nonsense' from 'asyncio.windows_events' {about}",
        ]

    def test_signals_in_other_threads_wake_the_loop(self, tmp_path: Path) -> None:
        program = """
            import asyncio, signal, threading
            signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job has it ignored
            loop = asyncio.new_event_loop()
            loop.call_soon(threading.Thread(target=signal.raise_signal, args=(signal.SIGINT,)).start)
            try:
                loop.run_forever()
            except KeyboardInterrupt:
                print("interrupted")
            loop.close()
            print(signal.set_wakeup_fd(-1))
        """
        assert run(tmp_path, program).splitlines() == ["interrupted", "-1"]

    @before_3_14
    def test_no_more_warnings_than_on_windows(self, tmp_path: Path) -> None:
        program = """
            import asyncio, warnings
            warnings.simplefilter("error")
            asyncio.set_event_loop_policy(asyncio.WindowsProactorEventLoopPolicy())
            asyncio.run(asyncio.sleep(0))
            print(asyncio.DefaultEventLoopPolicy.__name__)
        """
        assert run(tmp_path, program) == "WindowsProactorEventLoopPolicy\n"


class TestLoop:
    def test_the_pipe_of_a_transport_is_a_handle_for_win32(self, door: Installation, name: str) -> None:
        del door
        win32pipe: Any = importlib.import_module("npipe.win32.win32pipe")

        async def main() -> None:
            loop: Any = asyncio.get_running_loop()
            [server] = await loop.start_serving_pipe(asyncio.Protocol, name)
            transport, _ = await loop.create_pipe_connection(asyncio.Protocol, name)
            pipe = transport.get_extra_info("pipe")
            assert isinstance(pipe, A.windows_utils.PipeHandle)
            assert pipe.handle == pipe.fileno() > 0
            assert win32pipe.GetNamedPipeServerProcessId(pipe.handle) == os.getpid()
            assert pipe.peer.pid == os.getpid()  # what npipe's own pipe has
            assert transport._sock is pipe
            transport.close()
            while transport._sock is not None:
                await asyncio.sleep(0)
            assert pipe.handle is None
            with pytest.raises(ValueError, match="closed"):
                pipe.fileno()
            server.close()

        asyncio.run(main())

    def test_errors_are_those_of_python_on_windows(self, door: Installation, name: str) -> None:
        del door

        async def main() -> list[tuple[str, int, str]]:
            loop: Any = asyncio.get_running_loop()
            [server] = await loop.start_serving_pipe(asyncio.Protocol, name)
            failed = []
            for call, address in (
                (loop.start_serving_pipe, name),
                (loop.create_pipe_connection, f"{name}-nobody"),
                (loop.create_pipe_connection, "a-file"),
                (loop.start_serving_pipe, "a-file"),
            ):
                with pytest.raises(OSError) as failure:
                    await call(asyncio.Protocol, address)
                error: Any = failure.value
                failed.append((type(error).__name__, error.winerror, str(error)))
            server.close()
            return failed

        not_found = "[WinError 2] The system cannot find the file specified"
        invalid = "[WinError 123] The filename, directory name, or volume label syntax is incorrect"
        assert asyncio.run(main()) == [
            ("PermissionError", 5, "[WinError 5] Access is denied"),
            ("FileNotFoundError", 2, not_found),
            ("FileNotFoundError", 2, not_found),
            ("OSError", 123, invalid),
        ]

    def test_a_handle_that_is_asked_for_leaves_the_pipe_as_it_is(self, door: Installation, name: str) -> None:
        del door

        async def main() -> bytes:
            loop: Any = asyncio.get_running_loop()

            class Echo(asyncio.Protocol):
                def connection_made(self, transport: Any) -> None:
                    self.transport = transport
                    transport.get_extra_info("pipe").fileno()

                def data_received(self, data: bytes) -> None:
                    self.transport.write(data)

            [server] = await loop.start_serving_pipe(Echo, name)
            reader = asyncio.StreamReader()
            transport, _ = await loop.create_pipe_connection(lambda: asyncio.StreamReaderProtocol(reader), name)
            assert transport.get_extra_info("pipe").handle
            gc.collect()
            transport.write(b"x" * 300_000)
            data = await asyncio.wait_for(reader.readexactly(300_000), 20)
            transport.close()
            server.close()
            return data

        assert asyncio.run(main()) == b"x" * 300_000

    def test_handles_of_pipe_are_read_and_written_by_transports(self, door: Installation) -> None:
        del door

        async def main() -> None:
            loop: Any = asyncio.get_running_loop()
            first, second = A.windows_utils.pipe(duplex=True)
            reader = asyncio.StreamReader()
            reading, _ = await loop.connect_read_pipe(
                lambda: asyncio.StreamReaderProtocol(reader), A.windows_utils.PipeHandle(first)
            )
            writing, _ = await loop.connect_write_pipe(asyncio.BaseProtocol, A.windows_utils.PipeHandle(second))
            writing.write(b"some bytes")
            assert await asyncio.wait_for(reader.readexactly(10), 20) == b"some bytes"
            writing.close()
            assert await asyncio.wait_for(reader.read(), 20) == b""
            reading.close()

        asyncio.run(main())

    def test_descriptors_are_read_and_written_as_ever(self, door: Installation) -> None:
        del door

        async def main() -> bytes:
            loop = asyncio.get_running_loop()
            first, second = os.pipe()
            reader = asyncio.StreamReader()
            await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(first, "rb"))
            os.write(second, b"bytes")
            os.close(second)
            return await asyncio.wait_for(reader.read(), 20)

        assert asyncio.run(main()) == b"bytes"

    def test_unix_sockets_are_as_ever(self, door: Installation, tmp_path: Path) -> None:
        del door

        async def main() -> bytes:
            async def served(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                writer.write(await reader.readline())
                writer.close()

            server = await asyncio.start_unix_server(served, tmp_path / "socket")
            async with server:
                reader, writer = await asyncio.open_unix_connection(tmp_path / "socket")
                writer.write(b"a line\n")
                line = await asyncio.wait_for(reader.readline(), 20)
                writer.close()
                return line

        assert asyncio.run(main()) == b"a line\n"

    def test_a_proactor_accepts_connects_reads_and_writes(self, door: Installation, name: str) -> None:
        del door

        async def main() -> None:
            proactor = asyncio.get_running_loop()._proactor  # type: ignore[attr-defined]
            server = A.windows_events.PipeServer(name)
            with pytest.raises(PermissionError):
                A.windows_events.PipeServer(name)
            accepting = proactor.accept_pipe(server._get_unconnected_pipe())
            client = await proactor.connect_pipe(name)
            accepted = await asyncio.wait_for(accepting, 20)
            reading = proactor.recv(accepted, 100)
            assert await proactor.send(client, b"hello") == 5
            assert await asyncio.wait_for(reading, 20) == b"hello"
            buffer = bytearray(10)
            assert await proactor.send(accepted, b"back") == 4
            assert await asyncio.wait_for(proactor.recv_into(client, buffer), 20) == 4
            reading = proactor.recv(accepted, 100)
            reading.cancel()
            client.close()
            assert await asyncio.wait_for(proactor.recv(accepted, 100), 20) == b""
            accepted.close()
            accepting = proactor.accept_pipe(server._get_unconnected_pipe())
            server.close()
            with pytest.raises((asyncio.CancelledError, OSError)):
                accepting.cancel()
                await accepting
            with pytest.raises(FileNotFoundError):
                await proactor.connect_pipe(name)

        asyncio.run(main())

    def test_a_busy_pipe_is_waited_for_and_may_be_cancelled(self, door: Installation, name: str) -> None:
        del door

        async def main() -> None:
            proactor = asyncio.get_running_loop()._proactor  # type: ignore[attr-defined]
            server = A.windows_events.PipeServer(name)
            first = await proactor.connect_pipe(name)
            waiting = asyncio.ensure_future(proactor.connect_pipe(name))
            cancelled = asyncio.ensure_future(proactor.connect_pipe(name))
            await asyncio.sleep(0)
            cancelled.cancel()
            with pytest.raises(asyncio.CancelledError):
                await cancelled
            instance = server._get_unconnected_pipe()  # another one listens now
            second = await asyncio.wait_for(waiting, 20)
            for pipe in (first, second, instance):
                pipe.close()
            server.close()

        asyncio.run(main())

    def test_a_proactor_waits_for_objects(self, door: Installation) -> None:
        del door
        win32event: Any = importlib.import_module("npipe.win32.win32event")
        event = win32event.CreateEvent(None, True, False, None)

        async def main() -> None:
            proactor = asyncio.get_running_loop()._proactor  # type: ignore[attr-defined]
            assert not await proactor.wait_for_handle(int(event), 0.01)
            waiting = proactor.wait_for_handle(int(event))
            assert not waiting.done()
            win32event.SetEvent(event)
            assert await asyncio.wait_for(waiting, 20)

        asyncio.run(main())

    def test_what_it_lacks_fails_by_name(self, door: Installation) -> None:
        del door
        for module, name in (("windows_utils", "Popen"), ("windows_events", "Nothing")):
            with pytest.raises(AttributeError, match=rf"asyncio\.{module}.*{name}.*docs/porting\.md"):
                getattr(getattr(asyncio, module), name)


class TestScope:
    def test_nothing_stays_changed(self) -> None:
        with opened():
            pass  # imports what it needs
        before = state()
        with opened():
            assert {"asyncio.ProactorEventLoop", "asyncio.windows_events"} <= set(differences(before))
            asyncio.run(asyncio.sleep(0))
        assert differences(before) == []

    def test_two_that_end_in_the_wrong_order(self) -> None:
        before = state()
        first, second = opened(), opened()
        first.uninstall()
        assert A.ProactorEventLoop
        second.uninstall()
        second.uninstall()
        assert differences(before) == []

    def test_what_somebody_has_put_above_it_stays(self) -> None:
        before = state()
        theirs = object()
        with pytest.MonkeyPatch.context() as patch:
            with opened():
                patch.setattr(asyncio, "ProactorEventLoop", theirs)
            assert A.ProactorEventLoop is theirs
        A.__dict__.pop("ProactorEventLoop")
        assert differences(before) == []

    @before_3_14
    def test_a_policy_of_the_programs_own_stays(self) -> None:
        policy = type("Policy", (asyncio.DefaultEventLoopPolicy,), {})()
        before = asyncio.events._event_loop_policy  # type: ignore[attr-defined]
        asyncio.set_event_loop_policy(policy)
        try:
            with opened():
                assert asyncio.get_event_loop_policy() is policy
                asyncio.set_event_loop_policy(A.WindowsProactorEventLoopPolicy())
            assert asyncio.get_event_loop_policy() is policy
            with opened():
                asyncio.set_event_loop_policy(None)
                asyncio.set_event_loop_policy(policy)
            assert asyncio.get_event_loop_policy() is policy
        finally:
            asyncio.set_event_loop_policy(before)

    @before_3_14
    def test_the_current_loop_is_the_same_inside_and_afterwards(self) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            loop = asyncio.SelectorEventLoop()
            asyncio.set_event_loop(loop)
            with opened():
                assert asyncio.get_event_loop() is loop
                assert isinstance(loop, A.ProactorEventLoop)
                other = A.ProactorEventLoop()
                asyncio.set_event_loop(other)
            assert type(loop) is asyncio.SelectorEventLoop
            assert asyncio.get_event_loop() is other
            asyncio.set_event_loop(None)
            asyncio.set_event_loop_policy(None)
            loop.close()
            with opened():
                asyncio.set_event_loop(other)
            assert asyncio.get_event_loop() is other
            assert type(asyncio.get_event_loop_policy()) is asyncio.DefaultEventLoopPolicy
            asyncio.set_event_loop_policy(None)
            other.close()

    def test_a_loop_that_runs_has_pipes_meanwhile(self, name: str) -> None:
        async def main() -> None:
            loop: Any = asyncio.get_running_loop()
            assert not hasattr(loop, "start_serving_pipe")
            with opened():
                assert isinstance(loop, A.ProactorEventLoop)
                [server] = await loop.start_serving_pipe(asyncio.Protocol, name)
                transport, _ = await loop.create_pipe_connection(asyncio.Protocol, name)
                assert transport.get_extra_info("pipe").handle
                proactor = loop._proactor
                waiting = proactor.wait_for_handle(transport.get_extra_info("pipe").handle, 60)
                waiting.cancel()
            assert type(loop) is asyncio.SelectorEventLoop
            assert not hasattr(loop, "_proactor")
            transport.close()  # both go on
            server.close()
            await asyncio.wait_for(server.wait_closed(), 20)

        asyncio.run(main())

    def test_what_a_program_keeps_goes_on_afterwards(self, name: str) -> None:
        with opened():
            kept = A.ProactorEventLoop
            loop = kept()

        async def main() -> None:
            [server] = await loop.start_serving_pipe(asyncio.Protocol, name)
            transport, _ = await loop.create_pipe_connection(asyncio.Protocol, name)
            transport.close()
            server.close()
            await asyncio.wait_for(server.wait_closed(), 20)

        loop.run_until_complete(main())
        loop.close()
        kept().close()

    def test_threads_run_loops_while_it_opens_and_closes(self) -> None:
        over = threading.Event()
        failed: list[BaseException] = []

        def work() -> None:
            try:
                while not over.is_set():
                    asyncio.run(asyncio.sleep(0))
            except BaseException as error:  # it is the test's result
                failed.append(error)

        threads = [threading.Thread(target=work) for _ in range(3)]
        for thread in threads:
            thread.start()
        for _ in range(50):
            with opened():
                A.ProactorEventLoop().close()
        over.set()
        for thread in threads:
            thread.join(30)
        assert failed == []

    def test_it_opens_in_the_import_of_asyncio_in_any_thread(self, tmp_path: Path) -> None:
        program = """
            import sys, threading
            from npipe import win32
            assert "asyncio" not in sys.modules
            seen = []
            def work():
                import asyncio
                seen.append(asyncio.new_event_loop())
            with win32.install(asyncio=True):
                threads = [threading.Thread(target=work) for _ in range(8)]
                for thread in threads: thread.start()
                for thread in threads: thread.join()
                import asyncio
                asyncio.ProactorEventLoop().close()
            print(len(seen), hasattr(asyncio, "ProactorEventLoop"), type(asyncio.new_event_loop()).__module__)
        """
        (tmp_path / "script.py").write_text("if 1:" + program)
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "script.py"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert (done.stderr, done.stdout) == ("", "8 False asyncio.unix_events\n")


# ---- The library's own tests


def library_tests(name: str) -> Path:
    """A file of CPython's tests, where the interpreter has them."""
    spec = importlib.util.find_spec("test.test_asyncio") if importlib.util.find_spec("test") else None
    if spec is None or spec.origin is None:
        pytest.skip("this interpreter came without the library's tests (the package `test`)")
    path = CHECKOUT.__class__(spec.origin).parent / name
    if not path.exists():
        pytest.skip(f"this interpreter's tests lack {name}")
    return path


@pytest.mark.timeout(120)
def test_the_librarys_own_tests_of_windows_events_pass_unmodified(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "npipe", "run", "--as-windows", str(library_tests("test_windows_events.py")), "-v"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "test_pipe (" in done.stderr
    assert "skipped" not in done.stderr
    assert "Warning" not in done.stderr


@pytest.mark.timeout(120)
def test_the_librarys_own_tests_of_pipes_in_windows_utils_pass_unmodified(tmp_path: Path) -> None:
    path = str(library_tests("test_windows_utils.py"))
    done = subprocess.run(
        [sys.executable, "-m", "npipe", "run", "--as-windows", path, "-v", "PipeTests"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "test_pipe_overlapped" in done.stderr
