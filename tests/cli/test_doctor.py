"""`npipe doctor` in worlds that are in order, and in broken ones: each fault is named, with what to do."""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import threading
from importlib import metadata
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

import npipe
from npipe.cli.checkup import findings, limits, neighbours, trip
from npipe.cli.checkup import root as root_checks
from tests import rendezvous
from tests.cli.helpers import DEADLINE, NPIPE, Server, run
from tests.cli.test_bench import on_a_terminal
from tests.helpers import AS_ROOT, CHECKOUT, stop

if TYPE_CHECKING:
    from pathlib import Path

STRANGER = 12345  # a user that is nobody's
DOCTOR_DEADLINE = 50.0


class Report(NamedTuple):
    """What the doctor has found."""

    status: int
    worst: str
    findings: list[dict[str, Any]]

    def of(self, check: str) -> dict[str, Any]:
        """The one finding of a check."""
        (found,) = [finding for finding in self.findings if finding["check"] == check]
        return found

    def bad(self) -> dict[str, str]:
        return {finding["check"]: finding["status"] for finding in self.findings if finding["status"] != "ok"}


def report(*before: str, cwd: str | None = None, **env: str | None) -> Report:
    """Run it behind other commands, with some of the environment changed (None: not set)."""
    world = {key: value for key, value in {**os.environ, **env}.items() if value is not None}
    done = subprocess.run(
        [*before, *NPIPE, "doctor", "--json"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=DOCTOR_DEADLINE,
        env=world,
        cwd=cwd,
    )
    assert done.stderr == ""
    known = json.loads(done.stdout)
    assert known["status"] == ("problem" if done.returncode else known["status"])
    for finding in known["findings"]:
        assert finding["found"]
        assert "\n" not in finding["found"]
        assert finding["advice"] or finding["status"] == "ok", finding
    return Report(done.returncode, known["status"], known["findings"])


def as_a_stranger() -> list[str]:
    """The command that lets the next one be another user, who may read what Python's own files are."""
    return [
        "setpriv", f"--reuid={STRANGER}", f"--regid={STRANGER}", "--clear-groups",
        "--inh-caps=-all,+dac_read_search", "--ambient-caps=-all,+dac_read_search",
    ]  # fmt: skip


def with_mounts(script: str) -> list[str]:
    """The command that runs a line of shell in a mount name space of its own, and then the next command there."""
    tried = subprocess.run(["unshare", "--mount", "true"], capture_output=True, text=True, check=False)
    if tried.returncode:
        pytest.skip(f"unshare --mount is not permitted here: {tried.stderr.strip()}")
    return ["unshare", "--mount", "sh", "-c", f'set -e; {script}; exec "$@"', "sh"]


def limited(what: str) -> list[str]:
    return ["sh", "-c", f'ulimit {what}; exec "$@"', "sh"]


# ---- In order


def test_a_machine_in_order_has_no_problem(root: Path) -> None:
    found = report()
    assert (found.status, found.worst in ("ok", "warning")) == (0, True), found.bad()
    assert found.of("root")["found"] == f"pipes are in {root}, because of NPIPE_ROOT"
    assert found.of("root folder")["found"] == "it is not there yet: the first server makes it"
    assert found.of("round trip")["found"].startswith("two processes have talked, ")
    assert found.of("npipe")["found"].startswith(f"{npipe.__version__}, CPython ")
    for check in ("memfd", "futex", "descriptors passed", "peer", "peer's groups", "events", "pidfd", "/proc"):
        assert found.of(check)["status"] == "ok"
    assert "io_uring" in found.of("not needed")["found"]


def test_it_leaves_nothing_behind(root: Path) -> None:
    report()
    assert list(root.iterdir()) == []


def test_piped_it_is_a_line_for_each_finding() -> None:
    done = run("doctor")
    assert (done.returncode, done.stderr) == (0, "")
    lines = [line.split("\t") for line in done.stdout.splitlines()]
    assert {len(line) for line in lines} == {4}
    assert {line[0] for line in lines} <= {"ok", "warning", "problem"}
    assert "round trip" in [line[1] for line in lines]


@pytest.mark.parametrize("columns", [40, 100])
def test_on_a_terminal_it_keeps_within_the_columns(columns: int, root: Path) -> None:
    written = re.sub(r"\x1b\[[0-9;]*m", "", on_a_terminal(columns, "doctor"))
    assert max(map(len, written.splitlines())) <= columns
    last = r"Pipes work here(, but see the warnings)?: 0 problems, (1 warning|\d+ warnings), \d+ ok$"
    assert re.search(last, " ".join(written.split()))


def test_no_color_is_obeyed() -> None:
    assert "\x1b[" in on_a_terminal(80, "doctor")
    assert not re.search(r"\x1b\[[0-9;]*3[0-9]", on_a_terminal(80, "doctor", NO_COLOR="1"))


def test_a_root_s_name_cannot_move_the_cursor(tmp_path: Path) -> None:
    done = subprocess.run(
        [*NPIPE, "doctor"], capture_output=True, timeout=DOCTOR_DEADLINE,
        env={**os.environ, "NPIPE_ROOT": str(tmp_path / "a\nb\x1b[2Jc\td")},
    )  # fmt: skip
    assert done.returncode == 0
    assert b"\x1b" not in done.stdout
    assert b"a\\nb\\x1b[2Jc\\td" in done.stdout


# ---- The root


def test_a_root_whose_parent_is_not_there_is_a_problem(tmp_path: Path) -> None:
    found = report(NPIPE_ROOT=str(tmp_path / "not" / "there"))
    assert found.status == 1
    assert found.of("root folder")["status"] == "problem"
    assert f"mkdir -p {tmp_path / 'not'}" in found.of("root folder")["advice"]
    assert found.of("round trip")["status"] == "problem"


def test_a_root_that_is_a_file_is_a_problem(root: Path) -> None:
    root.write_text("x")
    found = report()
    assert found.of("root folder")["status"] == "problem"
    assert "no folder" in found.of("root folder")["found"]


def test_a_root_that_all_may_write_to_is_a_problem(root: Path) -> None:
    root.mkdir()
    root.chmod(0o777)
    found = report()
    assert found.of("root owner")["status"] == "problem"
    assert "0777" in found.of("root owner")["found"]
    assert f"chmod 1777 {root}" in found.of("root owner")["advice"]
    assert "WinError 5" in found.of("round trip")["found"]


def test_a_sticky_root_is_in_order(root: Path) -> None:
    root.mkdir()
    root.chmod(0o1777)
    found = report()
    assert found.status == 0
    assert "shared by users (sticky)" in found.of("root owner")["found"]


@AS_ROOT
def test_a_root_of_another_user_is_a_problem(root: Path) -> None:
    root.mkdir()
    os.chown(root, STRANGER, STRANGER)
    found = report()
    assert found.status == 1
    assert found.of("root owner")["status"] == "problem"
    assert f"uid {STRANGER}" in found.of("root owner")["found"]
    assert "NPIPE_ROOT" in found.of("root owner")["advice"]


@AS_ROOT
def test_a_root_that_this_user_may_not_write_to_is_a_problem(shared_root: Path) -> None:
    shared_root.chmod(0o755)
    found = report(*as_a_stranger())
    assert found.status == 1
    assert found.of("root owner")["status"] == "ok"
    assert found.of("root writable")["status"] == "problem"
    assert f"uid {STRANGER}" in found.of("root writable")["found"]
    assert "chmod 1777" in found.of("root writable")["advice"]
    assert found.of("round trip")["status"] == "problem"


@AS_ROOT
def test_a_stranger_is_at_home_in_a_shared_root(shared_root: Path) -> None:
    assert report(*as_a_stranger()).status == 0


@AS_ROOT
def test_a_root_on_a_read_only_file_system_is_a_problem(root: Path) -> None:
    root.mkdir()
    found = report(*with_mounts(f"mount -t tmpfs -o ro,mode=700 none {root}"))
    assert found.of("root writable")["status"] == "problem"
    assert "read-only" in found.of("root writable")["found"]
    assert found.of("root file system")["found"] == f"tmpfs, mounted at {root}"


@AS_ROOT
def test_a_root_without_inodes_is_a_problem(root: Path) -> None:
    root.mkdir()
    found = report(*with_mounts(f"mount -t tmpfs -o nr_inodes=1,mode=700 none {root}"))
    assert found.of("root writable")["status"] == "problem"
    assert "inode" in found.of("root writable")["found"]


@AS_ROOT
def test_a_full_root_is_a_problem(root: Path) -> None:
    root.mkdir()
    fill = f"mount -t tmpfs -o size=64k,mode=700 none {root}; head -c 65536 /dev/zero > {root}/full"
    found = report(*with_mounts(fill))
    assert found.of("root writable")["status"] == "problem"
    assert "full" in found.of("root writable")["found"]


@AS_ROOT
def test_no_folder_for_temporary_files_is_a_problem() -> None:
    # As they are, for what runs may lie in one of them.
    made = "mount --bind $d $d && mount -o remount,bind,ro $d"
    read_only = f"for d in /tmp /var/tmp /usr/tmp; do test ! -d $d || {{ {made}; }}; done"
    found = report(
        *with_mounts(read_only), *as_a_stranger(), cwd="/", NPIPE_ROOT=None, XDG_RUNTIME_DIR=None, TMPDIR=None
    )
    assert found.status == 1
    assert found.of("root")["status"] == "problem"
    assert "NPIPE_ROOT" in found.of("root")["advice"]


def test_a_relative_root_is_a_warning(tmp_path: Path) -> None:
    found = report(cwd=str(tmp_path), NPIPE_ROOT="here")
    assert (found.status, found.of("root path")["status"]) == (0, "warning")


def test_pipes_in_another_root_are_a_warning(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = tmp_path / "runtime" / "npipe"
    other.mkdir(parents=True, mode=0o700)
    monkeypatch.setenv("NPIPE_ROOT", str(other))
    with npipe.listen(name):
        found = report(NPIPE_ROOT=str(tmp_path / "npipe-root"), XDG_RUNTIME_DIR=str(tmp_path / "runtime"))
    assert found.status == 0
    texts = [finding["found"] for finding in found.findings if finding["check"] == "other roots"]
    assert any(text.startswith(f"1 pipes are below {other}") for text in texts)


def test_file_systems_of_networks_are_a_warning(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root.mkdir()
    root.chmod(0o700)
    for kind in ("nfs4", "cifs", "9p", "fuse.sshfs"):
        monkeypatch.setattr(root_checks, "mount_of", lambda _, kind=kind: root_checks.Mount("/net", kind, "rw"))
        (found,) = [finding for finding in root_checks.check_root() if finding.check == "root file system"]
        assert found.status == "warning"
        assert found.found.startswith(f"{kind}, mounted at /net")


@AS_ROOT
def test_a_mount_with_a_space_in_its_path_is_found(tmp_path: Path) -> None:
    place = tmp_path / "a b"
    place.mkdir()
    found = report(*with_mounts(f"mount -t tmpfs none '{place}'"), NPIPE_ROOT=str(place / "root"))
    assert found.of("root file system")["found"] == f"tmpfs, mounted at {place}"


# ---- Limits


def test_few_descriptors_are_a_problem() -> None:
    found = report(*limited("-n 16"))
    assert found.status == 1
    assert found.of("descriptors")["status"] == "problem"
    assert found.of("descriptors")["found"].startswith("a process may open 16 (ulimit -n")
    assert "ulimit -n 4096" in found.of("descriptors")["advice"]


def test_some_descriptors_are_a_warning() -> None:
    found = report(*limited("-S -n 256"))
    assert (found.status, found.of("descriptors")["status"]) == (0, "warning")


def test_files_that_may_not_grow_are_a_problem() -> None:
    found = report(*limited("-f 100"))
    assert found.status == 1
    assert found.of("file size")["status"] == "problem"
    assert "ulimit -f" in found.of("file size")["advice"]


@AS_ROOT
def test_few_mappings_and_no_instance_of_inotify_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    few = {"/proc/sys/vm/max_map_count": 1000}
    genuine = limits._number
    monkeypatch.setattr(limits, "_number", lambda path: few.get(path, genuine(path)))

    def refused(*_: object, **__: object) -> None:
        raise npipe.PipeResourceError(npipe.WinError.NO_SYSTEM_RESOURCES, detail="no instance is left")

    monkeypatch.setattr(npipe, "wait", refused)
    found = {finding.check: finding for finding in limits.check_limits()}
    assert found["mappings"].status == "warning"
    assert "vm.max_map_count" in (found["mappings"].advice or "")
    assert found["inotify"].status == "problem"
    assert "fs.inotify.max_user_instances" in (found["inotify"].advice or "")


def test_one_processor_is_a_warning() -> None:
    found = report("taskset", "-c", str(min(os.sched_getaffinity(0))))
    assert (found.status, found.of("processors")["status"]) == (0, "warning")


# ---- The kernel, and filters


FILTER = """
import ctypes, os, struct, sys
refused, code = [int(number) for number in sys.argv[1].split(",")], int(sys.argv[2])
load, jump, answer = 0x20, 0x15, 0x06
steps = [struct.pack("<HBBI", load, 0, 0, 0)]
for number in refused:
    steps += [struct.pack("<HBBI", jump, 0, 1, number), struct.pack("<HBBI", answer, 0, 0, 0x00050000 | code)]
steps.append(struct.pack("<HBBI", answer, 0, 0, 0x7FFF0000))
program = b"".join(steps)
room = ctypes.create_string_buffer(program)
class Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("steps", ctypes.c_void_p)]
prctl = ctypes.CDLL(None, use_errno=True).prctl
assert prctl(38, 1, 0, 0, 0) == 0
assert prctl(22, 2, ctypes.byref(Program(len(steps), ctypes.addressof(room))), 0, 0) == 0, ctypes.get_errno()
os.execvp(sys.argv[3], sys.argv[3:])
"""
CALLS = {
    "x86_64": {"memfd_create": 319, "pidfd_open": 434, "unshare": 272, "eventfd2": 290, "inotify_init1": 294},
    "aarch64": {"memfd_create": 279, "pidfd_open": 434, "unshare": 97, "eventfd2": 19, "inotify_init1": 26},
}.get(platform.machine(), {})
needs_numbers = pytest.mark.skipif(not CALLS, reason="the calls' numbers are those of x86-64 and arm64")


def without(*calls: str, error: int = 1) -> list[str]:
    """The command that runs the next one under a filter that refuses these calls, as containers' do (EPERM)."""
    return [sys.executable, "-c", FILTER, ",".join(str(CALLS[call]) for call in calls), str(error)]


@needs_numbers
@pytest.mark.parametrize(("call", "check"), [("memfd_create", "memfd"), ("eventfd2", "events")])
def test_a_filter_that_refuses_what_is_needed_is_a_problem(call: str, check: str) -> None:
    found = report(*without(call))
    assert found.status == 1
    assert found.of(check)["status"] == "problem"
    assert "seccomp" in found.of(check)["advice"]
    assert "filtered" in found.of("seccomp")["found"]


@needs_numbers
def test_a_filter_that_refuses_what_some_need_is_a_warning() -> None:
    found = report(*without("pidfd_open"))
    assert (found.status, found.of("pidfd")["status"]) == (0, "warning")
    assert "Operation not permitted" in found.of("pidfd")["found"]


@needs_numbers
def test_no_inotify_is_a_problem() -> None:
    found = report(*without("inotify_init1", error=24))
    assert found.of("inotify")["status"] == "problem"


@AS_ROOT
def test_a_missing_proc_is_a_warning_and_the_rest_is_told() -> None:
    found = report(*with_mounts("mount -t tmpfs none /proc"))
    assert found.status == 0, found.bad()
    assert found.of("/proc")["status"] == "warning"
    assert "mount /proc" in found.of("/proc")["advice"]
    assert found.of("root file system")["status"] == "warning"
    assert found.of("round trip")["status"] == "ok"


@AS_ROOT
@needs_numbers
def test_a_missing_proc_where_unshare_is_refused_is_a_problem() -> None:
    found = report(*with_mounts("mount -t tmpfs none /proc"), *without("unshare"))
    assert found.of("/proc")["status"] == "problem"
    assert "NPIPE_ROOT" in found.of("/proc")["advice"]


def test_a_user_namespace_that_maps_few_is_a_warning() -> None:
    within = ["unshare", "--user", "--map-root-user"]
    tried = subprocess.run([*within, "true"], capture_output=True, text=True, check=False)
    if tried.returncode:
        pytest.skip(f"unshare --user is not permitted here: {tried.stderr.strip()}")
    found = report(*within)
    assert found.of("user namespace")["status"] == "warning"


@AS_ROOT
def test_a_container_is_told_with_what_shares_its_root(root: Path) -> None:
    root.mkdir(mode=0o700)
    marked = "mount -t tmpfs none /run; touch /run/.containerenv"
    alone = report(*with_mounts(marked)).of("container")
    shared = report(*with_mounts(f"{marked}; mount --bind {root} {root}")).of("container")
    assert re.match(r"(podman|docker); the root folder is ", alone["found"])
    assert f"on {root}, which others may have too" in shared["found"]


# ---- Samba, extras, servers


@AS_ROOT
def test_no_samba_is_told_and_is_no_fault(tmp_path: Path) -> None:
    hide = "for d in /usr/sbin /usr/local/sbin; do test ! -d $d || mount -t tmpfs none $d; done; PATH=/nowhere"
    unshare, *rest = with_mounts(hide)
    found = report(str(shutil.which(unshare)), *rest)
    assert (found.of("Samba")["status"], found.status) == ("ok", 0)
    assert "not installed" in found.of("Samba")["found"]


@pytest.mark.skipif(shutil.which("smbd", path="/usr/sbin:/usr/bin") is None, reason="Samba is not installed")
@AS_ROOT
def test_samba_s_folder_that_others_may_write_to_is_a_warning(tmp_path: Path) -> None:
    (tmp_path / "np").mkdir()
    found = report(NPIPE_SAMBA_DIR=str(tmp_path))
    assert found.of("Samba's folder")["found"] == f"{tmp_path / 'np'} can be written to"
    (tmp_path / "np").chmod(0o777)
    found = report(NPIPE_SAMBA_DIR=str(tmp_path))
    assert (found.of("Samba's folder")["status"], found.status) == ("warning", 0)


def test_extras_are_told_missing_too_old_and_there(monkeypatch: pytest.MonkeyPatch) -> None:
    versions = {"click": "8.1.7", "rich": "12.6", "smbprotocol": "1.17.0"}
    monkeypatch.setattr(
        metadata, "requires",
        lambda _: ['click>=8.1; extra == "cli"', "rich>=13 ; extra == 'cli'", 'smbprotocol<2,>=1.17; extra == "smb"',
                   'npipe[cli]; extra == "all"', 'click>=8.1; extra == "one"', 'nothing; extra == "two"'],
    )  # fmt: skip

    def version(name: str) -> str:
        if name not in versions:
            raise metadata.PackageNotFoundError(name)
        return versions[name]

    monkeypatch.setattr(metadata, "version", version)
    found = {finding.check: finding for finding in neighbours.check_extras()}
    assert found["extra cli"].status == "warning"
    assert found["extra cli"].found == "rich 12.6, and rich>=13 is wanted"
    assert found["extra smb"].found == "smbprotocol 1.17.0"
    assert found["extra one"].status == "ok"
    assert found["extra two"].advice == "pip install --upgrade 'npipe[two]'"


def test_servers_of_our_version_are_counted(name: str) -> None:
    with Server(name), npipe.listen(f"{name}-2"):
        assert report().of("servers")["found"].startswith("2 running, asked for ")


@pytest.mark.parametrize(("version", "age"), [(0, "an older"), (2, "a newer")])
def test_a_server_of_another_version_is_a_problem(name: str, version: int, age: str) -> None:
    with rendezvous.own(name) as owner:
        answering = threading.Thread(target=owner.answer, args=(rendezvous.answer(1306, version=version),))
        answering.start()
        found = report()
        answering.join(DEADLINE)
    assert found.status == 1
    (bad,) = [finding for finding in found.findings if finding["check"] == "servers" and finding["status"] != "ok"]
    assert f"is served by {age} npipe (process {os.getpid()}): version {version} " in bad["found"]
    assert "install the same version" in bad["advice"]


@pytest.mark.parametrize("said", [b"x", b"nonsense that is long enough"])
def test_a_server_of_something_else_is_a_problem(name: str, said: bytes) -> None:
    with rendezvous.own(name) as owner:
        answering = threading.Thread(target=owner.answer, args=(said,))
        answering.start()
        found = report()
        answering.join(DEADLINE)
    assert any("is no npipe" in finding["found"] for finding in found.findings if finding["check"] == "servers")


def test_a_server_that_is_stopped_is_a_warning(name: str) -> None:
    with Server(name) as server:
        stop(server.process.pid)
        found = report()
        os.kill(server.process.pid, signal.SIGCONT)
    (bad,) = [finding for finding in found.findings if finding["check"] == "servers" and finding["status"] != "ok"]
    assert (bad["status"], found.status) == ("warning", 0)
    assert "does not answer" in bad["found"]


def test_what_dead_servers_left_is_passed_over(name: str) -> None:
    with rendezvous.own(name) as owner:
        owner.close()
        assert report().of("servers")["found"].startswith("0 running")


def test_the_rendezvous_that_it_speaks_is_the_engine_s() -> None:
    header = (CHECKOUT / "src/npipe/engine/pipe/messages.h").read_text(encoding="utf-8")
    assert f"#define NPW_VERSION {neighbours._VERSION}\n" in header
    assert (neighbours._MAGIC, neighbours._QUERY) == (rendezvous.MAGIC, rendezvous.QUERY)


# ---- The round trip


def test_a_round_trip_that_takes_too_long_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trip, "_DEADLINE", 0.01)
    (found,) = trip.check_round_trip()
    assert (found.status, found.found) == ("problem", "no answer within 0 seconds")


def test_bytes_that_come_back_as_others_are_a_problem(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with npipe.serve(name, lambda request: request[:-1] + b"?"):
        assert trip.main([name]) == 1
    assert capsys.readouterr().err == "1 bytes came back as others\n"


def test_a_python_that_cannot_be_started_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/not/there")
    (found,) = trip.check_round_trip()
    assert found.status == "problem"
    assert "could not be begun" in found.found


def test_a_check_that_the_system_does_not_allow_is_a_finding_and_the_others_go_on() -> None:
    def refused() -> Any:
        raise PermissionError(13, "Permission denied")
        yield

    def fine() -> Any:
        yield findings.ok("fine", "yes")

    one, other = findings.run_checks({"refused": refused, "fine": fine})
    assert (one.check, one.status) == ("refused", "warning")
    assert other == findings.ok("fine", "yes")
    assert findings.worst([one, other]) == "warning"
