"""The door of the platform's name: whom `npipe run --as-windows` tells that this is Windows, and what it says."""

from __future__ import annotations

import builtins
import importlib
import importlib.util
import os
import pickle
import platform
import subprocess
import sys
import threading
import types
from typing import TYPE_CHECKING, Any

import pytest

from npipe import win32
from tests.doors.helpers import run
from tests.helpers import started

if TYPE_CHECKING:
    from pathlib import Path

ASK = "import os, platform, sys\ndef told():\n    return sys.platform, os.name, platform.system()\n"
WINDOWS = "('win32', 'nt', 'Windows')"
LINUX = "('linux', 'posix', 'Linux')"
AS_WINDOWS = "--as-windows"


def package(folder: Path, name: str) -> None:
    """A package that is installed, with a module below it."""
    place = folder / "site-packages" / name
    place.mkdir(parents=True)
    (place / "__init__.py").write_text(ASK)
    (place / "part.py").write_text(ASK)


class TestWhoIsTold:
    def test_the_script_and_what_is_beside_it(self, tmp_path: Path) -> None:
        (tmp_path / "beside.py").write_text(ASK)
        (tmp_path / "below").mkdir()
        (tmp_path / "below" / "__init__.py").write_text(ASK)
        program = ASK + "import beside, below\nprint(told(), beside.told(), below.told())\n"
        assert run(tmp_path, program, AS_WINDOWS) == f"{WINDOWS} {WINDOWS} {WINDOWS}\n"
        assert run(tmp_path, program) == f"{LINUX} {LINUX} {LINUX}\n"

    def test_packages_that_are_named_and_no_others(self, tmp_path: Path) -> None:
        package(tmp_path, "named")
        package(tmp_path, "other")
        program = """
            import sys
            sys.path.append("site-packages")
            import named.part, other.part
            print(named.told(), named.part.told(), other.told(), other.part.told())
        """
        printed = run(tmp_path, program, AS_WINDOWS, "--also", "named")
        assert printed == f"{WINDOWS} {WINDOWS} {LINUX} {LINUX}\n"

    def test_the_library_is_not(self, tmp_path: Path) -> None:
        program = """
            import asyncio, multiprocessing.connection, pathlib, shutil, subprocess, tempfile, threading
            for module in (asyncio, multiprocessing.connection, pathlib, shutil, subprocess, tempfile, threading):
                for name in ("sys", "os"):
                    asked = getattr(module, name, None)
                    assert asked is None or (asked.platform if name == "sys" else asked.name) in ("linux", "posix")
            print(type(pathlib.Path("x")).__name__, subprocess.run(["true"]).returncode)
        """
        assert run(tmp_path, program, AS_WINDOWS) == "PosixPath 0\n"

    def test_a_library_module_that_the_program_runs_is_not(self, tmp_path: Path) -> None:
        done = subprocess.run(
            [sys.executable, "-m", "npipe", "run", AS_WINDOWS, "-m", "platform"],
            capture_output=True,
            text=True,
            check=True,
            cwd=tmp_path,
            timeout=60,
        )
        assert done.stdout.startswith("Linux-")

    def test_a_module_and_a_command_line(self, tmp_path: Path) -> None:
        (tmp_path / "mine").mkdir()
        (tmp_path / "mine" / "__init__.py").touch()
        (tmp_path / "mine" / "part.py").write_text(ASK)
        (tmp_path / "mine" / "__main__.py").write_text(ASK + "from mine import part\nprint(told(), part.told())\n")
        for what in (("-m", "mine"), ("-c", ASK + "from mine import part; print(told(), part.told())")):
            command = [sys.executable, "-m", "npipe", "run", AS_WINDOWS, *what]
            done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path, timeout=60)
            assert done.stdout == f"{WINDOWS} {WINDOWS}\n"

    def test_a_file_that_has_a_name_of_the_library_is_the_programs(self, tmp_path: Path) -> None:
        (tmp_path / "queue.py").write_text(ASK)
        assert run(tmp_path, "import queue\nprint(queue.told())\n", AS_WINDOWS) == f"{WINDOWS}\n"

    def test_code_that_a_program_runs_is_told_as_the_program(self, tmp_path: Path) -> None:
        program = """
            exec("import sys; print(sys.platform)", {})
            print(eval("__import__('os').name", {}))
            import importlib
            print(importlib.import_module("platform").system())
        """
        assert run(tmp_path, program, AS_WINDOWS).split() == ["win32", "nt", "Windows"]


class TestEveryWayToAsk:
    def test_all_forms_of_import(self, tmp_path: Path) -> None:
        program = """
            import sys, os, platform, os.path, os.path as paths
            import sys as s
            from sys import platform as one
            from os import name as two, path
            from platform import system, uname
            print(sys.platform, s.platform, one, os.name, two, platform.system(), system(), uname().system)
            print(sys.platform.startswith("win"), os.path is paths is path, os.path.join("a", "b"), os.sep)
            space = {}
            exec("from sys import *\\nfrom os import *", space)
            print(space["platform"], space["name"], "getcwd" in space)
            print(getattr(sys, "platform"), vars(os)["name"], "getwindowsversion" in dir(sys))
            import types, inspect
            print(isinstance(sys, types.ModuleType), inspect.ismodule(os), sys)
            print(os.__name__, sys.__name__, bool(os.__doc__))
        """
        assert run(tmp_path, program, AS_WINDOWS).splitlines() == [
            "win32 win32 win32 nt nt Windows Windows Windows",
            "True True a/b /",
            "win32 nt True",
            "win32 nt True",
            "True True <module 'sys' (built-in)>",
            "os sys True",
        ]

    def test_versions(self, tmp_path: Path) -> None:
        program = """
            import platform, sys
            version = sys.getwindowsversion()
            print(version.major, version[:3], version >= (6, 2), version.platform_version, version.product_type)
            print(platform.release(), platform.version(), platform.platform(), platform.win32_ver()[:2])
            print(platform.uname()[0], platform.machine() in ("AMD64", "ARM64"), platform.architecture()[1])
        """
        assert run(tmp_path, program, AS_WINDOWS).splitlines() == [
            "10 (10, 0, 19045) True (10, 0, 19045) 1",
            "10 10.0.19045 Windows-10-10.0.19045-SP0 ('10', '10.0.19045')",
            "Windows True WindowsPE",
        ]

    def test_what_is_set_is_set_for_all(self, tmp_path: Path) -> None:
        program = """
            import io, os, sys
            real = sys.modules["sys"]
            before, sys.stdout = sys.stdout, io.StringIO()
            print("caught")
            sys.stdout, caught = before, sys.stdout
            print(repr(caught.getvalue()), real.stdout is before)
            sys.mine = 5
            print(real.mine)
            del sys.mine
            print(hasattr(real, "mine"))
            os.environ["NEW_VARIABLE"] = "x"
            print(sys.modules["os"].environ["NEW_VARIABLE"])
            sys.argv.append("y")
            print(real.argv[-1])
        """
        assert run(tmp_path, program, AS_WINDOWS).splitlines() == ["'caught\\n' True", "5", "False", "x", "y"]

    def test_a_platform_that_is_set_is_only_for_those_who_are_told(self, tmp_path: Path) -> None:
        program = """
            import os, sys
            from unittest import mock
            with mock.patch.object(sys, "platform", "darwin"), mock.patch.object(os, "name", "java"):
                print(sys.platform, os.name, sys.modules["sys"].platform, sys.modules["os"].name)
            print(sys.platform, os.name)
        """
        assert run(tmp_path, program, AS_WINDOWS).splitlines() == ["darwin java linux posix", "win32 nt"]

    def test_reload_exit_and_frames(self, tmp_path: Path) -> None:
        program = """
            import importlib, sys
            import platform
            assert importlib.reload(platform) is platform
            assert platform.system() == "Windows"
            assert sys._getframe().f_code.co_name == "<module>"
            try:
                raise ValueError
            except ValueError:
                assert sys.exc_info()[0] is ValueError
            sys.exit(0)
        """
        assert run(tmp_path, program, AS_WINDOWS) == ""

    def test_a_name_that_there_is_not_is_told_with_the_page(self, tmp_path: Path) -> None:
        program = """
            import os
            try:
                os.startfile("x")
            except AttributeError as error:
                print(error)
            print(hasattr(os, "startfile"))
            try:
                import winsound
            except ImportError as error:
                print(error)
        """
        first, *rest = run(tmp_path, program, AS_WINDOWS).splitlines()
        assert "startfile" in first
        assert "docs/porting.md" in first
        assert rest == ["False", "No module named 'winsound'"]

    def test_variables_that_windows_always_has(self, tmp_path: Path) -> None:
        program = """
            import os
            print(os.environ["TEMP"], os.environ["temp"], os.environ.get("USERNAME") is not None, os.getenv("OS"))
            print("APPDATA" in os.environ, "NO_SUCH" in os.environ, os.environ["Path"] == os.environ["PATH"])
            from unittest import mock
            with mock.patch.dict(os.environ, {"TEMP": "/elsewhere"}, clear=True):
                print(os.environ["TEMP"], dict(os.environ))
            print("TEMP" in __import__("sys").modules["os"].environ, "PATH" in os.environ)
            print(os.environ.pop("TEMP"), "TEMP" in os.environ)
        """
        assert run(tmp_path, program, AS_WINDOWS, TMPDIR="/tmp").splitlines() == [
            "/tmp /tmp True Windows_NT",
            "True False True",
            "/elsewhere {'TEMP': '/elsewhere'}",
            "False True",
            "/tmp False",
        ]

    def test_variables_in_a_path(self, tmp_path: Path) -> None:
        program = r"""
            import os
            print(os.path.expandvars(r"\\.\pipe\%USER%-%temp%-$USER-%nosuch%-100%%"), os.path.expandvars(b"%USER%"))
            print(os.getlogin() == os.environ["USERNAME"])
        """
        printed = run(tmp_path, program, AS_WINDOWS, USER="me", LOGNAME="me", TMPDIR="/x").splitlines()
        assert printed == [r"\\.\pipe\me-/x-me-%nosuch%-100% b'me'", "True"]

    def test_folders_that_windows_always_has(self, tmp_path: Path) -> None:
        program = """
            import os
            for name in ("ProgramFiles", "ProgramFiles(x86)", "ProgramW6432", "SystemRoot", "windir"):
                assert os.path.isabs(os.environ[name]), name
            assert os.environ["HOMEDRIVE"] + os.environ["HOMEPATH"] == os.path.expanduser("~")
            assert int(os.environ["NUMBER_OF_PROCESSORS"]) == os.cpu_count()
        """
        assert run(tmp_path, program, AS_WINDOWS) == ""

    def test_the_registry_has_no_keys_below_its_roots(self, tmp_path: Path) -> None:
        program = r"""
            import winreg

            def fails(call, *arguments):
                try:
                    call(*arguments)
                except OSError as error:
                    print(type(error).__name__, error.winerror)

            with winreg.OpenKey(winreg.HKEY_CURRENT_USER, "", 0, winreg.KEY_READ) as root:
                print(winreg.QueryInfoKey(root)[:2], bool(root))
                fails(winreg.OpenKeyEx, root, "Software")
                fails(winreg.QueryValueEx, root, "name")
                fails(winreg.EnumKey, root, 0)
                fails(winreg.CreateKey, root, "Software")
            fails(winreg.QueryInfoKey, root)
            print(winreg.ExpandEnvironmentStrings("%OS% %NO_SUCH% 5%"))
            try:
                winreg.NoSuch
            except AttributeError as error:
                print("docs/porting.md" in str(error))
        """
        assert run(tmp_path, program, AS_WINDOWS).splitlines() == [
            "(0, 0) True",
            "FileNotFoundError 2",
            "FileNotFoundError 2",
            "OSError 259",
            "PermissionError 5",
            "OSError 6",
            "Windows_NT %NO_SUCH% 5%",
            "True",
        ]
        program = "try:\n    import winreg\nexcept ImportError as error:\n    print(error)\n"
        assert run(tmp_path, program) == "No module named 'winreg'\n"

    def test_paths_of_pipes_are_windows_and_others_the_systems(self, tmp_path: Path) -> None:
        program = r"""
            import os
            from os.path import abspath, join
            print(abspath(join(r"\\?\pipe", ".")), join(r"\\.\pipe", "x"), os.path.basename(r"\\.\pipe\x"))
            print(abspath("/a/../b"), join("a", "b"), os.path.basename("a/b"), join(r"\\.\pipe", "/etc"))
            print(os.path.abspath(b"//./pipe/./x"), os.path.isabs(r"\\.\pipe\x"), os.path.normpath(r"//./pipe/a/../b"))
        """
        assert run(tmp_path, program, AS_WINDOWS).splitlines() == [
            r"\\?\pipe\ \\.\pipe\x x",
            "/b a/b b /etc",
            r"b'\\\\.\\pipe\\x' True \\.\pipe\b",
        ]

    def test_a_child_without_a_window(self, tmp_path: Path) -> None:
        program = """
            import signal, subprocess
            info = subprocess.STARTUPINFO()
            info.dwFlags |= subprocess.STARTF_USESHOWWINDOW
            flags = subprocess.CREATE_NO_WINDOW | 0x08000000
            print(subprocess.run(["echo", "x"], creationflags=flags, startupinfo=info, capture_output=True).stdout)
            signal.signal(signal.SIGBREAK, signal.SIG_DFL)
        """
        assert run(tmp_path, program, AS_WINDOWS) == "b'x\\n'\n"


class TestScope:
    PATCHED = (
        (builtins, "__import__"),
        (importlib, "import_module"),
        (importlib, "reload"),
        (importlib.util, "find_spec"),
        (subprocess.Popen, "__init__"),
        *((sys, name) for name in ("platform", "modules")),
        *((os, name) for name in ("name", "environ", "path")),
        *((platform, name) for name in ("system", "uname", "platform")),
    )

    def state(self) -> list[object]:
        return [vars(target)[name] for target, name in self.PATCHED]

    def test_nothing_stays_changed(self) -> None:
        before = self.state()
        one, two = win32.install(pywin32=False, platform=True), win32.install(platform=["tests"])
        one.uninstall()
        two.uninstall()
        assert all(first is second for first, second in zip(before, self.state(), strict=True))

    def test_what_was_given_says_afterwards_what_the_real_one_says(self) -> None:
        space: dict[str, Any] = {"__name__": "tests.somebody"}
        with win32.install(platform=["tests"]):
            exec("import sys, os, platform\nfrom platform import system\nfrom os import getenv", space)
            assert (space["sys"].platform, space["os"].name, space["system"]()) == ("win32", "nt", "Windows")
            assert space["os"].path is not os.path
            assert space["getenv"]("COMPUTERNAME")
        assert (space["sys"].platform, space["os"].name, space["system"]()) == (sys.platform, os.name, "Linux")
        assert space["os"].path is os.path
        assert space["os"].environ is os.environ
        assert not hasattr(space["sys"], "getwindowsversion")
        assert space["getenv"]("COMPUTERNAME") is os.environ.get("COMPUTERNAME")

    def test_packages_of_an_installation_that_has_ended_are_told_no_more(self) -> None:
        def told(name: str) -> str:
            space: dict[str, Any] = {"__name__": name, "__file__": f"/x/site-packages/{name}.py"}
            exec("import sys", space)
            return str(space["sys"].platform)

        one, two = win32.install(platform=["one"]), win32.install(platform=["two.part"])
        assert (told("one"), told("one.below"), told("onetwo")) == ("win32", "win32", sys.platform)
        assert (told("two"), told("two.part"), told("two.part.x"), told("two.party")) == (
            sys.platform,
            "win32",
            "win32",
            sys.platform,
        )
        one.uninstall()
        assert (told("one"), told("two.part")) == (sys.platform, "win32")
        two.uninstall()
        assert told("two.part") == sys.platform

    def test_a_module_is_not_pickled(self) -> None:
        with win32.install(platform=["tests"]):
            given = importlib.import_module("sys")
            assert given is not sys
            with pytest.raises(TypeError, match="pickle"):
                pickle.dumps(given)
            assert isinstance(given, types.ModuleType)

    def test_a_name_instead_of_a_list(self) -> None:
        with pytest.raises(TypeError, match="in a list"):
            win32.install(platform="pypresence")

    def test_values_that_are_true_or_false_are_as_good(self) -> None:
        with win32.install(pywin32=0, files=1, asyncio=None, platform=None) as given:  # type: ignore[arg-type]
            assert given.doors == ("files",)
        with win32.install(pywin32=False, platform=1) as given:  # type: ignore[arg-type]
            assert given.doors == ("platform",)

    def test_threads_ask_while_it_opens_and_closes(self) -> None:
        over = threading.Event()

        def ask() -> set[str]:
            seen = set()
            while not over.is_set():
                space: dict[str, Any] = {"__name__": "tests.thread"}
                exec("from sys import platform; import sys, os", space)
                seen |= {space["platform"], space["sys"].platform}
            return seen

        threads = [started(ask) for _ in range(3)]
        for _ in range(200):
            with win32.install(platform=["tests"]):
                pass
        over.set()
        assert all(thread.result() <= {"win32", sys.platform} for thread in threads)
