"""`npipe wait`, a process of its own."""

from __future__ import annotations

import subprocess

import pytest

import npipe
from tests.cli.helpers import DEADLINE, NPIPE, STATUSES, run
from tests.helpers import until, watches


def assert_failed(done: subprocess.CompletedProcess[str], code: int) -> None:
    assert done.returncode == STATUSES[code]
    assert done.stdout == ""
    assert done.stderr.startswith(f"npipe: [WinError {code}] ")
    assert done.stderr.count("\n") == 1


def test_an_instance_that_listens_is_status_0(name: str) -> None:
    with npipe.listen(name):
        done = run("wait", name)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_missing_pipe_is_code_2_at_once_even_for_ever(name: str) -> None:
    assert_failed(run("wait", name), 2)
    assert_failed(run("wait", name, "--timeout", "inf"), 2)


@pytest.mark.parametrize("timeout", [(), ("--timeout", "0.02"), ("--timeout", "0")])
def test_busy_instances_are_code_121(name: str, timeout: tuple[str, ...]) -> None:
    with npipe.listen(name, max_instances=1) as listener, npipe.connect(name), listener.accept(DEADLINE):
        assert_failed(run("wait", name, *timeout), 121)


def test_without_a_timeout_the_pipe_s_own_counts(name: str) -> None:
    with npipe.listen(name, max_instances=1, default_timeout=None) as listener:
        first = npipe.connect(name)
        served = listener.accept(DEADLINE)
        process = subprocess.Popen([*NPIPE, "wait", name], stderr=subprocess.PIPE)
        first.close()
        served.close()  # its place is taken by an instance that listens
        _, err = process.communicate(timeout=DEADLINE)
    assert (process.returncode, err) == (0, b"")


def test_a_wrong_name_is_one_line() -> None:
    assert_failed(run("wait", "C:\\x"), 123)


def test_a_machine_that_there_is_no_way_to_is_one_line() -> None:
    assert_failed(run("wait", r"\\elsewhere\pipe\x"), 50)


def test_with_create_it_waits_for_a_server_that_is_not_there_yet(name: str) -> None:
    waits = [["--timeout", str(DEADLINE)], []]
    processes = [subprocess.Popen([*NPIPE, "wait", name, "--create", *more], stderr=subprocess.PIPE) for more in waits]
    try:
        for process in processes:
            until(lambda process=process: watches(process.pid) == 1, DEADLINE)  # type: ignore[misc]
            assert process.poll() is None
        with npipe.listen(name):
            for process in processes:
                _, err = process.communicate(timeout=DEADLINE)
                assert (process.returncode, err) == (0, b"")
            assert run("wait", name, "--create").returncode == 0
    finally:
        for process in processes:
            with process:
                process.kill()


def test_with_create_and_a_time_that_is_over_it_is_code_121(name: str) -> None:
    assert_failed(run("wait", name, "--create", "--timeout", "0.05"), 121)
    assert_failed(run("wait", name, "--create", "--timeout", "0"), 2)
