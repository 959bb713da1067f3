"""`npipe.win32.install`, in processes of their own, for it is about `sys.modules`."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

PRELUDE = """
import importlib, sys, types
import npipe.win32
from npipe.win32._modules import NAMES

def ours():
    return all(sys.modules.get(name) is sys.modules["npipe.win32." + name] for name in NAMES)

def none():
    return not any(name in sys.modules for name in NAMES)

"""


def check(script: str, *, path: Path | None = None) -> None:
    """The script runs without an error."""
    inserted = "" if path is None else f"sys.path.insert(0, {str(path)!r})\n"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", PRELUDE + inserted + script], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr


def test_importing_the_face_installs_nothing() -> None:
    check("assert none()\nimport npipe.win32.winerror\nassert none()")


def test_the_names_are_there_within_the_scope_and_gone_after_it() -> None:
    check("""
with npipe.win32.install():
    assert ours()
    import win32con, win32security
    assert win32con is npipe.win32.win32con and win32security is npipe.win32.win32security
assert none()
try:
    import win32con as again
except ImportError:
    pass
else:
    raise AssertionError("still there")
""")


def test_a_plain_call_stays_without_being_kept() -> None:
    check("import gc\nnpipe.win32.install()\ngc.collect()\nassert ours()")


def test_an_installation_is_undone_once() -> None:
    check("""
first = npipe.win32.install()
first.uninstall()
assert none()
second = npipe.win32.install()
first.uninstall()
assert ours()
second.uninstall()
assert none()
""")


def test_nested_installations_end_in_any_order() -> None:
    check("""
import itertools
sys.modules["win32api"] = other = types.ModuleType("win32api")
for order in itertools.permutations(range(3)):
    made = [npipe.win32.install() for _ in range(3)]
    for place in order[:-1]:
        made[place].uninstall()
        assert ours()
    made[order[-1]].uninstall()
    assert sys.modules.pop("win32api") is other and none()
    sys.modules["win32api"] = other
""")


def test_what_was_there_before_comes_back_exactly() -> None:
    check("""
sys.modules["win32pipe"] = fake = types.ModuleType("win32pipe")
sys.modules["win32file"] = None
with npipe.win32.install():
    assert ours()
assert sys.modules["win32pipe"] is fake and sys.modules["win32file"] is None
assert "win32api" not in sys.modules
""")


def test_what_others_put_there_meanwhile_is_left_alone() -> None:
    check("""
outer = npipe.win32.install()
sys.modules["win32api"] = mine = types.ModuleType("win32api")
inner = npipe.win32.install()
assert ours()
outer.uninstall()
assert ours()
inner.uninstall()
assert sys.modules.pop("win32api") is mine
assert none()

sys.modules["win32con"] = before = types.ModuleType("win32con")
with npipe.win32.install():
    sys.modules["winerror"] = mine = types.ModuleType("winerror")
    del sys.modules["win32con"], sys.modules["win32file"]
assert sys.modules.pop("winerror") is mine and sys.modules.pop("win32con") is before
assert none()
""")


def test_an_exception_in_the_scope_ends_it_too() -> None:
    check("""
try:
    with npipe.win32.install():
        raise KeyError
except KeyError:
    pass
assert none()
""")


def test_it_never_provides_what_tells_software_that_it_runs_on_windows() -> None:
    check("""
import subprocess
npipe.win32.install()
for name in ("msvcrt", "_winapi", "winreg", "nt"):
    assert name not in sys.modules
    try:
        importlib.import_module(name)
    except ImportError:
        continue
    raise AssertionError(name)
assert sys.platform == "linux"
""")


def test_it_refuses_where_pywin32_itself_has_been_imported(tmp_path: Path) -> None:
    (tmp_path / "pywin32_system32").mkdir()
    folder = tmp_path / "win32" / "lib"
    folder.mkdir(parents=True)
    (folder / "winerror.py").write_text("ERROR_SUCCESS = 0\n")
    check(
        """
import winerror
before = winerror
try:
    npipe.win32.install()
except RuntimeError as error:
    assert "winerror" in str(error) and "pywin32" in str(error)
else:
    raise AssertionError("installed")
assert sys.modules.pop("winerror") is before and none()
with npipe.win32.install():
    assert ours()
""",
        path=folder,
    )


def test_on_windows_it_does_nothing() -> None:
    check("""
import npipe._doors.installation as place
place.sys = types.SimpleNamespace(platform="win32", modules=sys.modules)
with npipe.win32.install(files=True, platform=True) as installation:
    assert none() and installation.doors == ()
""")


def test_the_submodules_are_attributes_without_an_import() -> None:
    check("""
assert npipe.win32.winerror.ERROR_PIPE_BUSY == 231
try:
    npipe.win32.win32clipboard
except AttributeError as error:
    assert "win32clipboard" in str(error)
else:
    raise AssertionError("win32clipboard")
""")


def test_on_windows_the_submodules_are_pywin32s_own(tmp_path: Path) -> None:
    package = tmp_path / "face"
    package.mkdir()
    (package / "__init__.py").write_text(
        "from npipe.win32._windows import alias\nalias(__name__, ('win32pipe', 'win32trace'))\n"
    )
    (package / "win32pipe.py").write_text("raise AssertionError('not this one')\n")
    (tmp_path / "win32pipe.py").write_text("error = ValueError\n")
    check(
        """
import face
assert "win32pipe" not in sys.modules
import face.win32pipe
import win32pipe
assert face.win32pipe is win32pipe is sys.modules["face.win32pipe"]
assert win32pipe.__name__ == "win32pipe" and win32pipe.__spec__.name == "win32pipe"
from face import win32pipe as again
assert again is win32pipe
try:
    import face.win32trace
except ImportError as error:
    assert "pip install pywin32" in str(error)
else:
    raise AssertionError("win32trace")
""",
        path=tmp_path,
    )
