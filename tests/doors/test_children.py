"""The door of children: which processes have the doors of the one that starts them, and that all of it ends."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import threading
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from npipe import win32
from npipe._doors.children.environment import FOLDER, doors_of
from npipe.win32 import pywintypes, win32pipe
from tests.doors.helpers import run

if TYPE_CHECKING:
    from npipe._doors import Installation

pytestmark = pytest.mark.slow  # each starts some processes

OTHERS = [
    path
    for path in sorted(Path(sys.base_prefix).parent.glob("*/bin/python"))
    if path.resolve() != Path(sys.executable).resolve()
]
HAS_DOORS = "import win32pipe, asyncio; print('doors', hasattr(asyncio, 'ProactorEventLoop'))"
HELPERS = """
import os, subprocess, sys
HAS = "import sys, win32pipe; print('doors', *sys.argv[1:])"
def child(*arguments, **keywords):
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, **keywords)
    print(done.stdout.strip(), done.stderr.strip().rpartition(chr(10))[2])
"""


def opened(**doors: Any) -> Installation:
    return win32.install(**{"pywin32": True, "children": True, **doors})


def output(code: str, *, env: dict[str, str] | None = None, executable: str = sys.executable) -> str:
    """What a child's code prints; its exit status is 0, and it has no complaints."""
    done = subprocess.run(
        [executable, "-c", code], capture_output=True, text=True, timeout=60, env=env, check=False, cwd="/"
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


class TestWays:
    @pytest.mark.parametrize(
        "line",
        [
            "child('-c', HAS)",
            "child('-c', HAS, env={})",
            "child('-c', HAS, env={'PYTHONPATH': '/nowhere'})",
            "child('-c', HAS, env={b'PYTHONPATH': b'/nowhere', b'A': b'b'})",
            "child('-c', HAS, env=os.environ)",
            "child('-c', HAS, close_fds=False)",
            "child('-m', 'module')",
            "child('module.py')",
            "print(subprocess.getoutput(f'{sys.executable} module.py'))",
            "os.system(f'{sys.executable} module.py')",
            "print(os.popen(f'{sys.executable} module.py').read().strip())",
            "os.spawnv(os.P_WAIT, sys.executable, ['python', 'module.py'])",
            "os.spawnve(os.P_WAIT, sys.executable, ['python', 'module.py'], {})",
            "os.waitpid(os.spawnle(os.P_NOWAIT, sys.executable, 'python', 'module.py', {}), 0)",
            "os.spawnlp(os.P_WAIT, sys.executable, 'python', 'module.py')",
            "os.waitpid(os.posix_spawn(sys.executable, ['python', 'module.py'], {}), 0)",
            "os.waitpid(os.posix_spawnp(sys.executable, ['python', 'module.py'], {}), 0)",
            "os.execv(sys.executable, ['python', 'module.py'])",
            "os.execve(sys.executable, ['python', 'module.py'], {})",
            "os.execle(sys.executable, 'python', 'module.py', {})",
            "os.execvpe(sys.executable, ['python', 'module.py'], {})",
            "os.execlp(sys.executable, 'python', 'module.py')",
            "if os.fork() == 0: os.execl(sys.executable, 'python', 'module.py')\nos.wait()",
            "os.environ.clear(); child('-c', HAS)",
            "os.environ['PYTHONPATH'] = '/nowhere'; child('-c', HAS)",
            "child('-c', f'import subprocess, sys; subprocess.run([sys.executable, \"-c\", {HAS!r}], env={{}})')",
        ],
    )
    def test_a_child_has_the_doors(self, tmp_path: Path, line: str) -> None:
        (tmp_path / "module.py").write_text("import win32pipe; print('doors')")
        assert run(tmp_path, HELPERS + line).strip() == "doors"

    @pytest.mark.parametrize("method", ["spawn", "forkserver", "fork"])
    def test_processes_and_pools_of_multiprocessing(self, tmp_path: Path, method: str, name: str) -> None:
        program = f"""
            import concurrent.futures
            import multiprocessing
            import os
            import sys

            def answer(name):
                import win32file
                pipe = win32file.CreateFile(name, 0xC0000000, 0, None, 3, 0, None)
                win32file.WriteFile(pipe, b"from a child")

            def square(number):
                import win32pipe
                return number * number

            if __name__ == "__main__":
                import win32file, win32pipe
                pipe = win32pipe.CreateNamedPipe(sys.argv[1], 3, 6, 1, 4096, 4096, 0, None)
                context = multiprocessing.get_context({method!r})
                process = context.Process(target=answer, args=(sys.argv[1],))
                process.start()
                win32pipe.ConnectNamedPipe(pipe, None)
                print(bytes(win32file.ReadFile(pipe, 100)[1]))
                process.join()
                with concurrent.futures.ProcessPoolExecutor(2, mp_context=context) as pool:
                    print(list(pool.map(square, range(4))))
        """
        printed = run(tmp_path, program, arguments=(name,), PYTHONWARNINGS="ignore::DeprecationWarning")
        assert printed.splitlines() == ["b'from a child'", "[0, 1, 4, 9]"]

    def test_spawn_after_the_program_has_set_its_search_path(self, tmp_path: Path) -> None:
        program = """
            import multiprocessing, os
            def work():
                import win32pipe
                print("doors", flush=True)
            if __name__ == "__main__":
                os.environ["PYTHONPATH"] = "/nowhere"
                process = multiprocessing.get_context("spawn").Process(target=work)
                process.start()
                process.join()
        """
        assert run(tmp_path, program) == "doors\n"

    @pytest.mark.parametrize(
        "command",
        [
            "subprocess.list2cmdline([sys.executable, '-c', HAS, 'a b', 'c'])",
            "subprocess.list2cmdline(['python', '-c', HAS, 'a b', 'c'])",
            "['python.exe', '-c', HAS, 'a b', 'c']",
            "['PYTHON.EXE', '-c', HAS, 'a b', 'c']",
        ],
    )
    def test_a_command_is_a_line_where_the_program_is_told_of_windows(self, tmp_path: Path, command: str) -> None:
        program = HELPERS + f"print(subprocess.run({command}, capture_output=True, text=True).stdout, end='')"
        assert run(tmp_path, program, "--as-windows") == "doors a b c\n"

    def test_a_line_of_which_nothing_is_found_is_an_error_as_ever(self, tmp_path: Path) -> None:
        program = HELPERS + (
            "for command in ('nothing of the kind', ['nothing', 'of'], [], 'nothing'):\n"
            "    try: subprocess.run(command)\n"
            "    except (FileNotFoundError, IndexError) as failure: print(type(failure).__name__)\n"
        )
        missing = "FileNotFoundError"
        assert run(tmp_path, program, "--as-windows").split() == [missing, missing, "IndexError", missing]

    def test_asyncio_starts_them_too(self, tmp_path: Path) -> None:
        program = HELPERS + (
            "import asyncio\n"
            "async def main():\n"
            "    process = await asyncio.create_subprocess_exec(sys.executable, '-c', HAS, env={}, stdout=-1)\n"
            "    print((await process.communicate())[0])\n"
            "asyncio.run(main())\n"
        )
        assert run(tmp_path, program) == "b'doors\\n'\n"

    def test_switches_are_passed_on(self, tmp_path: Path) -> None:
        program = HELPERS + (
            "child('-c', 'import asyncio, importlib.util as u, os, sys;'\n"
            '    \'print(hasattr(asyncio, "ProactorEventLoop"), u.find_spec("win32pipe") is not None,\'\n'
            "    'sys.platform, os.name)')"
        )
        assert run(tmp_path, program).split() == ["True", "True", "linux", "posix"]
        assert run(tmp_path, program, "--no-asyncio").split()[0] == "False"
        assert run(tmp_path, program, "--as-windows").split() == ["True", "True", "win32", "nt"]
        assert run(tmp_path, program, "--no-children").split() == ["False", "False", "linux", "posix"]

    def test_packages_that_are_told_of_windows_are_passed_on(self, tmp_path: Path) -> None:
        packages = tmp_path / "site-packages"
        for name in ("one", "two", "three"):
            (packages / name).mkdir(parents=True)
            (packages / name / "__init__.py").write_text("import sys; told = sys.platform")
        program = HELPERS + "child('-c', 'import one, two, three; print(one.told, two.told, three.told)')"
        switches = ("--as-windows", "--also", "one", "--also", "two")
        assert run(tmp_path, program, *switches, PYTHONPATH=str(packages)).split() == ["win32", "win32", "linux"]

    def test_the_program_of_a_nested_command_has_the_doors_of_its_own_switches(self, tmp_path: Path) -> None:
        probe = "import importlib.util as u; print(u.find_spec('win32pipe') is not None)"
        program = HELPERS + f"child('-m', 'npipe', 'run', *sys.argv[1:], '-c', {probe!r})"
        assert run(tmp_path, program).strip() == "True"
        assert run(tmp_path, program, arguments=("--no-pywin32",)).strip() == "False"
        grandchild = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {probe!r}])"
        program = HELPERS + f"child('-m', 'npipe', 'run', *sys.argv[1:], '-c', {grandchild!r})"
        assert run(tmp_path, program, arguments=("--no-pywin32",)).strip() == "False"
        assert run(tmp_path, program, arguments=("--no-children",)).strip() == "False"


class TestInterpreters:
    def test_what_a_child_does_not_use_is_not_loaded(self) -> None:
        code = (
            "import sys; print([name for name in ('ctypes', 'asyncio', 'multiprocessing', 'hashlib')"
            " if name in sys.modules]); import ctypes; from ctypes import windll, wintypes; import asyncio;"
            " print(ctypes.WinDLL('kernel32').GetCurrentProcessId() > 0, hasattr(asyncio, 'IocpProactor'))"
        )
        with opened(files=True, asyncio=True, ctypes=True, winapi=True):
            assert output(code).splitlines() == ["[]", "True True"]

    @pytest.mark.parametrize("told", ["x", "7:1", "0:x", "0", ":", "0:1:2", "-1:4", "0:999999"])
    def test_a_variable_of_streams_that_makes_no_sense_changes_nothing(self, told: str) -> None:
        with opened():
            printed = output("import win32pipe; print('doors')", env={**os.environ, "NPIPE_STANDARD_HANDLES": told})
        assert printed == "doors\n"

    @pytest.mark.parametrize(
        "told", ["x", "1:2", "256:0:1", "256:999:1", "-1:5:5", "0:5:5", "256:5:5", "99999999999:5:5"]
    )
    def test_a_variable_of_files_that_makes_no_sense_changes_nothing(self, told: str) -> None:
        with opened():
            code = "import os, win32pipe; print('doors', 'NPIPE_FILES' in os.environ)"
            printed = output(code, env={**os.environ, "NPIPE_FILES": told})
        assert printed == "doors False\n"

    def test_one_that_reads_no_environment_has_none(self, tmp_path: Path) -> None:
        for switch in ("-I", "-E", "-S"):
            program = HELPERS + f"child({switch!r}, '-c', HAS)"
            assert run(tmp_path, program).strip() == "ModuleNotFoundError: No module named 'win32pipe'", switch

    @pytest.mark.parametrize("python", OTHERS, ids=lambda path: str(path.parents[1].name))
    def test_another_version_runs_undisturbed(self, python: Path) -> None:
        code = "import sys; print([place for place in sys.path if 'startup' in place])"
        plain = "import sys; print([name for name in sys.modules if 'npipe' in name])"
        with opened(asyncio=True):
            assert output(code, executable=str(python)) == "[]\n"
            assert output(plain, executable=str(python)) == "[]\n"

    def test_one_of_this_version_without_npipe_has_that_of_its_parent(self, tmp_path: Path) -> None:
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path], check=True)
        with opened():
            assert output("import win32pipe; print(win32pipe.__name__)", executable=f"{tmp_path}/bin/python")
        done = subprocess.run([f"{tmp_path}/bin/python", "-c", "import win32pipe"], capture_output=True, check=False)
        assert done.returncode == 1

    def test_the_search_path_is_as_without_it(self, tmp_path: Path) -> None:
        (tmp_path / "script.py").write_text("import sys; print(sys.path, sys.argv, sys.flags)")
        for arguments in (("script.py", "x"), ("-m", "script", "x"), ("-c", "import sys; print(sys.path, sys.argv)")):
            command = [sys.executable, *arguments]
            before = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
            with opened():
                inside = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
            assert inside == before

    def test_another_sitecustomize_runs_too(self, tmp_path: Path) -> None:
        (tmp_path / "sitecustomize.py").write_text("import sys; sys.theirs = True; import win32pipe")
        code = "import sitecustomize, sys; print(sys.theirs, sitecustomize.__file__)"
        with opened():
            printed = output(code, env={**os.environ, "PYTHONPATH": str(tmp_path)})
        assert printed == f"True {tmp_path}/sitecustomize.py\n"

    def test_one_that_fails_is_complained_of_as_ever(self, tmp_path: Path) -> None:
        (tmp_path / "sitecustomize.py").write_text("import nothing_of_the_kind")
        with opened():
            done = subprocess.run(
                [sys.executable, "-c", "import win32pipe"],
                env={**os.environ, "PYTHONPATH": str(tmp_path)},
                capture_output=True,
                text=True,
                check=False,
            )
        assert done.returncode == 0
        assert "Error in sitecustomize" in done.stderr
        assert "nothing_of_the_kind" in done.stderr


class TestScope:
    def state(self) -> list[object]:
        posix: Any = __import__("_posixsubprocess")
        return [
            *(vars(os)[name] for name in ("execv", "execve", "_spawnvef", "posix_spawn", "posix_spawnp")),
            *(vars(subprocess.Popen)[name] for name in ("__init__", "_execute_child")),
            posix.fork_exec,
            vars(subprocess)["_fork_exec"],
            dict(os.environ),
            list(sys.path),
            list(sys.meta_path),
        ]

    def assert_unchanged(self, before: list[object]) -> None:
        for one, other in zip(before, self.state(), strict=True):
            assert one is other or one == other

    @pytest.mark.parametrize("path", [None, "/somewhere", f"/one{os.pathsep}/two"])
    def test_nothing_stays_changed(self, path: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("PYTHONPATH", raising=False)
        if path is not None:
            monkeypatch.setenv("PYTHONPATH", path)
        before = self.state()
        with opened():
            assert os.environ["PYTHONPATH"].split(os.pathsep)[0] == FOLDER
            assert os.environ["NPIPE_DOORS"] == "pywin32,children"
        self.assert_unchanged(before)

    def test_what_the_program_has_set_meanwhile_stays(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PYTHONPATH", "/before")
        with opened():
            os.environ["PYTHONPATH"] = f"/mine{os.pathsep}{os.environ['PYTHONPATH']}"
            os.environ["ANOTHER"] = "1"
        assert os.environ["PYTHONPATH"] == f"/mine{os.pathsep}/before"
        assert os.environ.pop("ANOTHER") == "1"
        assert "NPIPE_DOORS" not in os.environ

    def test_the_doors_of_all_installations_are_passed_on_in_any_order(self) -> None:
        before = self.state()
        first = opened(pywin32=False)
        assert os.environ["NPIPE_DOORS"] == "children"
        second = win32.install(pywin32=True, asyncio=True)
        assert doors_of(os.environ["NPIPE_DOORS"]) == {"pywin32": True, "asyncio": True, "children": True}
        assert output(HAS_DOORS) == "doors True\n"
        third = opened(pywin32=False, platform=["one", "two"])
        assert doors_of(os.environ["NPIPE_DOORS"])["platform"] == ["one", "two"]
        first.uninstall()
        second.uninstall()
        assert doors_of(os.environ["NPIPE_DOORS"]) == {"platform": ["one", "two"], "children": True}
        third.uninstall()
        self.assert_unchanged(before)

    def test_functions_that_were_kept_do_afterwards_what_they_did_before(self) -> None:
        with opened():
            spawn, fork_exec = os.spawnv, os.posix_spawn
        pid = fork_exec(sys.executable, [sys.executable, "-c", "import win32pipe"], {})
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 1
        assert spawn(os.P_WAIT, sys.executable, [sys.executable, "-c", "import win32pipe"]) == 1

    def test_threads_start_processes_while_it_opens_and_closes(self) -> None:
        over = threading.Event()
        seen: list[int] = []

        def work() -> None:
            while not over.is_set():
                seen.append(subprocess.run(["true"], env={"A": "b"}, check=False).returncode)
                seen.append(subprocess.run(["true"], check=False).returncode)
                seen.append(os.spawnv(os.P_WAIT, "/bin/true", ["true"]))

        before = self.state()
        threads = [threading.Thread(target=work) for _ in range(2)]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # os.spawnv forks
            for thread in threads:
                thread.start()
            for _ in range(200):
                with opened():
                    pass
            over.set()
            for thread in threads:
                thread.join(30)
        assert len(seen) > 5
        assert set(seen) == {0}
        self.assert_unchanged(before)

    def test_mistakes_are_told_as_without_it(self) -> None:
        before: list[Any] = []
        for inside in (False, True):
            told = []
            with opened(pywin32=False, children=inside):
                for call in (
                    lambda: subprocess.Popen(["true"], env=7),  # type: ignore[call-overload]
                    lambda: subprocess.Popen(["true"], env={1: 2}),  # type: ignore[arg-type]
                    lambda: subprocess.Popen(["/nowhere/at/all"], env={}),
                    lambda: os.execve("/nowhere/at/all", ["x"], {}),
                    lambda: os.execv("/nowhere/at/all", ["x"]),
                    lambda: os.execve("/bin/true", ["true"], 7),  # type: ignore[arg-type]
                    lambda: os.posix_spawn("/nowhere/at/all", ["x"], {}),
                    lambda: os.spawnv(os.P_NOWAIT, "/nowhere/at/all", []),
                    lambda: subprocess.Popen(["true"], startupinfo=object()),
                ):
                    with pytest.raises((OSError, TypeError, ValueError, AttributeError)) as failure:
                        call()
                    told.append((failure.type, str(failure.value)))
            before = before or told
            assert told == before

    def test_an_environment_that_is_none_is_told_of_beside_handles_that_a_child_inherits(self) -> None:
        attributes = pywintypes.SECURITY_ATTRIBUTES()
        attributes.bInheritHandle = True
        ends = win32pipe.CreatePipe(attributes, 0)
        before: list[Any] = []
        for inside in (False, True):
            told: list[Any] = []
            with opened(pywin32=False, children=inside):
                for call in (
                    lambda: subprocess.Popen(["true"], env=7, close_fds=False),  # type: ignore[call-overload]
                    lambda: os.execve("/bin/true", ["true"], 7),  # type: ignore[arg-type]
                ):
                    with pytest.raises((TypeError, AttributeError)) as failure:
                        call()  # type: ignore[no-untyped-call]
                    told.append((failure.type, str(failure.value)))
                told.append(os.spawnve(os.P_WAIT, "/bin/true", ["true"], 7))  # type: ignore[arg-type]
            before = before or told
            assert told == before
        for end in ends:
            end.Close()


class TestHandles:
    PAIR = """
        import os, subprocess, sys
        import pywintypes, win32api, win32file, win32pipe

        CHILD = (
            "import sys, win32file; pipe = int(sys.argv[1]); win32file.WriteFile(pipe, b'from the child');"
            "assert win32file.ReadFile(pipe, 100) == (0, b'from the parent')"
        )
        attributes = pywintypes.SECURITY_ATTRIBUTES()
        attributes.bInheritHandle = True
        server = win32pipe.CreateNamedPipe(sys.argv[1], 3, 6, 1, 4096, 4096, 0, None)
        client = win32file.CreateFile(sys.argv[1], 0xC0000000, 0, attributes, 3, 0, None)
        win32file.WriteFile(server, b"from the parent")
        COMMAND = [sys.executable, "-c", CHILD, str(int(client))]

        def check():
            client.close()
            print(bytes(win32file.ReadFile(server, 100)[1]))
    """

    @pytest.mark.parametrize(
        "how",
        [
            "process = subprocess.Popen(COMMAND, close_fds=False); check(); print(process.wait())",
            "process = subprocess.Popen(COMMAND, close_fds=False, env={}); check(); print(process.wait())",
            (
                "info = subprocess.STARTUPINFO(lpAttributeList={'handle_list': [int(client)]})\n"
                "process = subprocess.Popen(COMMAND, startupinfo=info); check(); print(process.wait())"
            ),
            "pid = os.spawnv(os.P_NOWAIT, COMMAND[0], COMMAND); check(); print(os.waitpid(pid, 0)[1])",
            "pid = os.spawnvpe(os.P_NOWAIT, COMMAND[0], COMMAND, {}); check(); print(os.waitpid(pid, 0)[1])",
        ],
    )
    def test_a_child_inherits_them_where_it_would_on_windows(self, tmp_path: Path, name: str, how: str) -> None:
        printed = run(tmp_path, self.program(how), "--as-windows", arguments=(name,))
        assert printed.splitlines() == ["b'from the child'", "0"]

    def program(self, how: str) -> str:
        return textwrap.dedent(self.PAIR) + how

    def test_none_with_close_fds_which_is_the_default(self, tmp_path: Path, name: str) -> None:
        how = (
            "done = subprocess.run(COMMAND, capture_output=True, text=True)\n"
            "print(done.returncode, '6, ' in done.stderr.splitlines()[-1])\n"
            "win32file.WriteFile(client, b'still here')\n"
            "check()"
        )
        printed = run(tmp_path, self.program(how), arguments=(name,))
        assert printed.splitlines() == ["1 True", "b'still here'"]

    @pytest.mark.parametrize(
        "how",
        [
            "os.set_handle_inheritable(handle, True)\nstart(startupinfo=listed())",
            "os.set_inheritable(writer, True)\nstart(startupinfo=listed())",
            "os.set_handle_inheritable(handle, True)\nstart(close_fds=False)",
            "os.set_inheritable(writer, True)\nstart(close_fds=False, env={})",
            "os.set_handle_inheritable(handle, True)\nos.spawnv(os.P_NOWAIT, COMMAND[0], COMMAND)",
        ],
    )
    @pytest.mark.parametrize("what", ["os.pipe()", "a file"])
    def test_a_handle_of_a_descriptor_is_one_in_the_child(self, tmp_path: Path, how: str, what: str) -> None:
        program = f"""
            import msvcrt, os, subprocess, sys

            CHILD = (
                "import msvcrt, os, sys; handle = int(sys.argv[1]); assert os.get_handle_inheritable(handle);"
                "fd = msvcrt.open_osfhandle(handle, os.O_WRONLY); os.write(fd, b'from the child'); os.close(fd)"
            )
            def start(**keywords):
                subprocess.Popen(COMMAND, **keywords)
            def listed():
                return subprocess.STARTUPINFO(lpAttributeList={{"handle_list": [handle]}})
            if {what!r} == "a file":
                reader, writer = None, os.open("file", os.O_WRONLY | os.O_CREAT)
            else:
                reader, writer = os.pipe()
            handle = msvcrt.get_osfhandle(writer)
            COMMAND = [sys.executable, "-c", CHILD, str(handle)]
            assert not os.get_handle_inheritable(handle)
        """
        end = """
            os.close(writer)
            if reader is None:
                assert os.wait()[1] == 0
                reader = os.open("file", os.O_RDONLY)
            print(os.read(reader, 100))
            print(os.read(reader, 100))
        """
        printed = run(tmp_path, textwrap.dedent(program) + how + "\n" + textwrap.dedent(end), "--as-windows")
        assert printed.splitlines() == ["b'from the child'", "b''"]

    def test_a_handle_goes_on_to_a_grandchild(self, tmp_path: Path, name: str) -> None:
        how = (
            "AGAIN = 'import subprocess, sys; '\n"
            "AGAIN += 'sys.exit(subprocess.run([sys.executable, *sys.argv[1:]], close_fds=False).returncode)'\n"
            "COMMAND = [sys.executable, '-c', AGAIN, '-c', AGAIN, *COMMAND[1:]]\n"
            "process = subprocess.Popen(COMMAND, close_fds=False); check(); print(process.wait())"
        )
        printed = run(tmp_path, self.program(how), arguments=(name,))
        assert printed.splitlines() == ["b'from the child'", "0"]

    def test_a_handle_that_a_child_has_used_goes_on_to_a_grandchild(self, tmp_path: Path, name: str) -> None:
        how = (
            "FIRST = 'import subprocess, sys, win32file, win32pipe; pipe = int(sys.argv[3]); '\n"
            "FIRST += 'win32pipe.PeekNamedPipe(pipe, 0); COMMAND = [sys.executable, *sys.argv[1:]]; '\n"
            "FIRST += 'process = subprocess.Popen(COMMAND, close_fds=False); '\n"
            "FIRST += 'win32file.CloseHandle(pipe); sys.exit(process.wait())'\n"
            "COMMAND = [sys.executable, '-c', FIRST, *COMMAND[1:]]\n"
            "process = subprocess.Popen(COMMAND, close_fds=False); check(); print(process.wait())"
        )
        printed = run(tmp_path, self.program(how), arguments=(name,))
        assert printed.splitlines() == ["b'from the child'", "0"]

    def test_a_handle_is_duplicated_into_a_child(self, tmp_path: Path, name: str) -> None:
        how = (
            "import _winapi\n"
            "TAKES = 'import win32file; win32file.WriteFile(int(input()), b\"from the child\")'\n"
            "process = subprocess.Popen([sys.executable, '-c', TAKES], stdin=subprocess.PIPE, text=True)\n"
            "there = _winapi.OpenProcess(_winapi.PROCESS_DUP_HANDLE, False, process.pid)\n"
            "same = _winapi.DUPLICATE_SAME_ACCESS\n"
            "number = _winapi.DuplicateHandle(_winapi.GetCurrentProcess(), int(client), there, 0, False, same)\n"
            "process.communicate(f'{number}\\n')\n"
            "print(process.returncode, win32file.ReadFile(server, 100)[1])\n"
            "_winapi.CloseHandle(there)\n"
        )
        assert run(tmp_path, self.program(how), arguments=(name,)) == "0 b'from the child'\n"

    def test_a_handle_that_is_open_to_the_end_is_no_error_there(self, tmp_path: Path) -> None:
        program = """
            import subprocess, sys
            process = subprocess.Popen([sys.executable, "-c", "pass"])
            print(process._handle.handle > 0)
            process.wait()
        """
        assert run(tmp_path, program) == "True\n"

    def test_a_process_has_a_handle(self, tmp_path: Path) -> None:
        program = """
            import subprocess, sys, win32event, win32process
            process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
            assert process._handle == process._handle
            print(win32event.WaitForSingleObject(process._handle, 0))
            win32process.TerminateProcess(int(process._handle), 7)
            print(win32event.WaitForSingleObject(int(process._handle), 20000))
            process.communicate()
        """
        assert run(tmp_path, program).split() == ["258", "0"]

    def test_one_in_the_list_has_to_be_inheritable(self, tmp_path: Path, name: str) -> None:
        how = (
            "info = subprocess.STARTUPINFO(lpAttributeList={'handle_list': [int(server)]})\n"
            "try: subprocess.Popen(COMMAND, startupinfo=info)\n"
            "except OSError as error: print(error.winerror)"
        )
        assert run(tmp_path, self.program(how), "--as-windows", arguments=(name,)) == "87\n"

    def test_the_next_program_of_this_process_has_them(self, tmp_path: Path, name: str) -> None:
        how = (
            "win32file.WriteFile(client, b'for the next one')\n"
            "win32api.SetHandleInformation(server, 1, 1)\n"
            "NEXT = 'import sys, win32file; print(bytes(win32file.ReadFile(int(sys.argv[1]), 100)[1]))'\n"
            "try: os.execv('/nowhere', ['x'])\n"
            "except FileNotFoundError: pass\n"
            "if os.fork() == 0: os.execl('/bin/true', 'true')\n"
            "os.wait()\n"
            "os.execl(sys.executable, sys.executable, '-c', NEXT, str(int(server)))"
        )
        printed = run(tmp_path, self.program(how), arguments=(name,), PYTHONWARNINGS="ignore::DeprecationWarning")
        assert printed == "b'for the next one'\n"
