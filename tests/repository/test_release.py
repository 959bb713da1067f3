"""What is released: an sdist that builds alone, wheels whose bytes depend on their content alone, what PyPI shows."""

from __future__ import annotations

import email
import email.message
import json
import os
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

from tests.helpers import CHECKOUT

RELEASE = CHECKOUT / "scripts" / "release"
PROJECT = tomllib.loads((CHECKOUT / "pyproject.toml").read_text(encoding="utf-8"))["project"]

# Bytes of a wheel of gcc 12's, not stripped, with 5% more; those that are released are smaller, and held to
# scripts/release/inspection.py's (docs/performance.md says what is in them).
LARGEST = 1_850_000

pytestmark = pytest.mark.timeout(900)


def run(*command: str | Path, cwd: Path = CHECKOUT, **environment: str) -> str:
    # The programs that build are beside this Python; SOURCE_DATE_EPOCH as scripts/release has it.
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        [str(word) for word in command],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        cwd=cwd,
        env=os.environ | {"PATH": path, "SOURCE_DATE_EPOCH": "1704067200"} | environment,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def release(code: str, *arguments: str | Path) -> str:
    """Run code that has the modules of scripts/release."""
    return run(sys.executable, "-c", code, *arguments, PYTHONPATH=str(RELEASE))


def metadata_of(text: str) -> email.message.Message:
    return email.message_from_string(text)


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if subprocess.run(["git", "rev-parse"], cwd=CHECKOUT, capture_output=True, check=False).returncode:
        pytest.skip("this is no git checkout: the sdist is made of one")
    folder = tmp_path_factory.mktemp("sdist")
    run(sys.executable, RELEASE / "sdist.py", folder)
    (path,) = folder.iterdir()
    return path


def built(sdist: Path, folder: Path) -> Path:
    """A wheel of the unpacked sdist, without git and without a network."""
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, filter="data")
    (top,) = folder.iterdir()
    assert not (top / ".git").exists()
    command: list[str | Path] = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "-q",
        "--no-build-isolation",
        "--no-deps",
        "-w",
        folder / "out",
        top,
    ]
    run(*command, cwd=folder, PIP_NO_INDEX="1", GIT_CEILING_DIRECTORIES=str(folder))
    (wheel,) = (folder / "out").iterdir()
    return wheel


@pytest.mark.slow
def test_the_sdist_has_tests_and_docs_and_is_the_same_each_time(sdist: Path, tmp_path: Path) -> None:
    top = f"npipe-{PROJECT['version']}"
    with tarfile.open(sdist) as archive:
        names = set(archive.getnames())
        info = archive.extractfile(f"{top}/PKG-INFO")
        assert info is not None
        text = info.read().decode()
        assert {(member.mtime, member.uid, member.uname) for member in archive} == {(1704067200, 0, "")}
    tracked = run("git", "ls-tree", "-r", "--name-only", "HEAD").split("\n")
    assert {f"{top}/{name}" for name in tracked if name} <= names
    assert {f"{top}/tests/conftest.py", f"{top}/docs/design.md", f"{top}/.ci/run"} <= names
    assert metadata_of(text)["Version"] == PROJECT["version"]
    run(sys.executable, RELEASE / "sdist.py", tmp_path)
    assert (tmp_path / sdist.name).read_bytes() == sdist.read_bytes()


@pytest.mark.slow
def test_a_wheel_of_the_sdist_alone_works_and_two_have_the_same_bytes(sdist: Path, tmp_path: Path) -> None:
    wheels = []
    for place in ("one", "another/with a longer name"):
        folder = tmp_path / place
        folder.mkdir(parents=True)
        wheels.append(built(sdist, folder))
    one, other = (zipfile.ZipFile(wheel) for wheel in wheels)
    with one, other:
        assert one.namelist() == other.namelist()
        different = [name for name in one.namelist() if one.read(name) != other.read(name)]
    assert not different
    assert wheels[0].read_bytes() == wheels[1].read_bytes()
    assert wheels[0].stat().st_size < LARGEST
    run(sys.executable, "-m", "venv", tmp_path / "bare")
    python = tmp_path / "bare" / "bin" / "python"
    run(python, "-m", "pip", "install", "-q", "--no-index", wheels[0])
    script = CHECKOUT / "scripts" / "smoke.py"
    assert run(python, "-I", script, "--bare", cwd=tmp_path, NPIPE_ROOT=str(tmp_path / "root")).endswith(
        "npipe works\n"
    )


def test_the_wheel_for_windows_is_the_same_each_time(tmp_path: Path) -> None:
    made = [Path(run(sys.executable, RELEASE / "windows_wheel.py", "--no-bill", tmp_path / n).strip()) for n in "ab"]
    assert made[0].read_bytes() == made[1].read_bytes()
    assert made[0].stat().st_size < 1_000_000
    with zipfile.ZipFile(made[0]) as wheel:
        assert not [name for name in wheel.namelist() if "/engine/" in name or "/binding/" in name]
        metadata = metadata_of(wheel.read(f"npipe-{PROJECT['version']}.dist-info/METADATA").decode())
    assert metadata["Requires-Dist"] == "pywin32>=306"
    assert len(metadata.get_all("Project-URL", [])) == len(PROJECT["urls"])


LINKS = """import common, readme
print(readme.for_pypi((common.ROOT / "README.md").read_text(encoding="utf-8"), common.project()))
"""


def test_every_link_of_readme_works_on_pypi() -> None:
    page = release(LINKS)
    without_code = re.sub(r"^```.*?^```", "", page, flags=re.MULTILINE | re.DOTALL)
    targets = re.findall(r"\]\(([^)\s]+)|(?:src|srcset|href)=\"([^\"]+)", without_code)
    assert targets
    base = re.escape(PROJECT["urls"]["Source"].removeprefix("https://github.com"))
    for one, other in targets:
        target = one or other
        assert re.match(r"https?:|#|mailto:", target), target
        inside = re.match(rf"https://(?:raw\.githubusercontent|github)\.com{base}/(?:blob/)?v([^/]+)/([^#]+)", target)
        if inside:
            assert inside[1] == PROJECT["version"]
            assert (CHECKOUT / inside[2]).exists(), target


def test_the_project_s_home_is_said_in_one_place() -> None:
    home = PROJECT["urls"]["Source"]
    assert {url.removeprefix(home).partition("/")[0] for url in PROJECT["urls"].values()} == {""}
    versions = [f"Programming Language :: Python :: 3.{minor}" for minor in (11, 12, 13, 14)]
    assert set(versions) <= set(PROJECT["classifiers"])


BILL = """import sys, common, sealing
content = {"npipe/binding/_parts.so": b"x"}
print(sealing.bill_of_materials(common.project(), "cp311-cp311-manylinux_2_17_x86_64", content))
"""


def test_the_bill_of_materials_is_valid_and_the_same_each_time() -> None:
    pytest.importorskip("cyclonedx", reason="the group release of pyproject.toml is not installed")
    for tool in ("ziglang", "auditwheel"):
        pytest.importorskip(tool, reason="the group release of pyproject.toml is not installed")
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    text = release(BILL)
    assert text == release(BILL)
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    bill = json.loads(text)
    assert bill["metadata"]["component"]["purl"] == f"pkg:pypi/npipe@{PROJECT['version']}"
    assert {tool["name"] for tool in bill["metadata"]["tools"]["components"]} >= {"cython", "ziglang"}
    assert [part["hashes"] for part in bill["components"] if part["type"] == "file"]


def test_a_system_that_is_not_linux_is_told_so_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "cross.ini").write_text(
        "[binaries]\nc = 'cc'\n[host_machine]\nsystem = 'darwin'\ncpu_family = 'aarch64'\ncpu = 'aarch64'\n"
        "endian = 'little'\n"
    )
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["meson", "setup", "--cross-file", tmp_path / "cross.ini", tmp_path / "build", CHECKOUT],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PATH": path},
    )
    assert done.returncode
    assert (
        "npipe runs on Linux, and on Windows by its wheel (pip install npipe): there is none for darwin." in done.stdout
    )
