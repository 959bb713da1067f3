"""pywin32's own tests, each as a case of its own in a process of its own."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

RUNNER = Path(__file__).with_name("run_unittest.py")
SKIPPED = 77
PATIENCE = 45  # seconds; the runner prints its stacks and ends before

TESTS = {
    "test_win32pipe": [
        "PipeTests.testCallNamedPipe",
        "PipeTests.testTransactNamedPipeBlocking",
        "PipeTests.testTransactNamedPipeBlockingBuffer",
        "PipeTests.testTransactNamedPipeAsync",
    ],
    "test_pywintypes": [
        "TestCase.testPyTimeFormat",
        "TestCase.testPyTimePrint",
        "TestCase.testTimeInDict",
        "TestCase.testPyTimeCompare",
        "TestCase.testPyTimeCompareOther",
        "TestCase.testTimeTuple",
        "TestCase.testTimeTuplems",
        "TestCase.testPyTimeFromTime",
        "TestCase.testPyTimeTooLarge",
        "TestCase.testGUID",
        "TestCase.testGUIDRichCmp",
        "TestCase.testGUIDInDict",
    ],
    "test_win32api": [
        "CurrentUserTestCase.testGetCurrentUser",
        "FileNames.testShortLongPathNames",
        "FileNames.testShortUnicodeNames",
        "FileNames.testLongLongPathNames",
        "FormatMessage.test_FromString",
        "Misc.test_last_error",
    ],
    "test_security": [
        "SecurityTests.testEqual",
        "SecurityTests.testNESID",
        "SecurityTests.testNEOther",
        "SecurityTests.testSIDInDict",
        "SecurityTests.testBuffer",
        "SecurityTests.testMemory",
    ],
    "test_win32file": [
        "TestSimpleOps.testSimpleFiles",
        "TestSimpleOps.testMoreFiles",
        "TestSimpleOps.testFilePointer",
        "TestSimpleOps.testFileTimesTimezones",
        "TestSimpleOps.testFileTimes",
        "TestGetFileInfoByHandleEx.testFileBasicInfo",
        "TestFindFiles.testIter",
        "TestFindFiles.testBadDir",
        "TestFindFiles.testEmptySpec",
        "TestFindFiles.testEmptyDir",
        "TestReadBuffer.testLen",
        "TestReadBuffer.testSimpleIndex",
        "TestReadBuffer.testSimpleSlice",
        "TestOverlapped.testSimpleOverlapped",
        "TestOverlapped.testCompletionPortsMultiple",
        "TestOverlapped.testCompletionPortsQueued",
        "TestOverlapped.testCompletionPortsNonQueued",
        "TestOverlapped.testCompletionPortsNonQueuedBadReference",
        "TestOverlapped.testHashable",
        "TestOverlapped.testComparable",
        "TestOverlapped.testComparable2",
    ],
    "test_win32event": [
        "TestWaitableTimer.testWaitableFire",
        "TestWaitableTimer.testCreateWaitableTimerEx",
        "TestWaitableTimer.testWaitableTrigger",
        "TestWaitableTimer.testWaitableError",
        "TestWaitFunctions.testMsgWaitForMultipleObjects",
        "TestWaitFunctions.testMsgWaitForMultipleObjects2",
        "TestWaitFunctions.testMsgWaitForMultipleObjectsEx",
        "TestWaitFunctions.testMsgWaitForMultipleObjectsEx2",
        "TestEvent.testCreateEvent",
        "TestEvent.testSetEvent",
        "TestEvent.testResetEvent",
        "TestMutex.testReleaseMutex",
    ],
    "handles": [
        "PyHandleTestCase.testCleanup1",
        "PyHandleTestCase.testCleanup2",
        "PyHandleTestCase.testCleanup3",
        "PyHandleTestCase.testCleanupGood",
        "PyHandleTestCase.testInvalid",
        "PyHandleTestCase.testHandleInDict",
        "PyHandleTestCase.testHandleInDictThenInt",
        "PyHandleTestCase.testHandleCompareNone",
        "PyHandleTestCase.testHandleCompareInt",
        "PyHandleTestCase.testHandleNonZero",
        "PyHandleTestCase.testLong",
        "PyHandleTestCase.testGC",
        "PyHandleTestCase.testTypes",
    ],
    "test_exceptions": [
        "TestAPISimple.testSimple",
        "TestAPISimple.testErrnoIndex",
        "TestAPISimple.testFuncIndex",
        "TestAPISimple.testMessageIndex",
        "TestAPISimple.testUnpack",
        "TestAPISimple.testAsStr",
        "TestAPISimple.testAsTuple",
        "TestAPISimple.testClassName",
        "TestAPISimple.testIdentity",
        "TestAPISimple.testBaseClass",
        "TestAPISimple.testAttributes",
        "TestAPISimple.testStrangeArgsNone",
        "TestAPISimple.testStrangeArgsNotEnough",
        "TestAPISimple.testStrangeArgsTooMany",
    ],
}

# Tests that cannot apply, by class or by name, with the reason.
EXCLUDED = {
    "test_win32file": {
        "TestSocketExtensions": "Winsock: AcceptEx, WSASend, WSARecv",
        "TestDirectoryChanges": "ReadDirectoryChangesW",
        "TestEncrypt": "NTFS encryption",
        "TestConnect": "Winsock: AcceptEx, ConnectEx",
        "TestTransmit": "Winsock: TransmitFile",
        "TestWSAEnumNetworkEvents": "Winsock: WSAEventSelect, WSAEnumNetworkEvents, the device NUL",
    },
    "test_win32api": {
        "TestTime": "the registry of time zones, formats of locales",
        "Registry": "the registry",
        "Misc.testVkKeyScan": "keyboards",
        "Misc.testVkKeyScanEx": "keyboards",
        "Misc.testGetSystemPowerStatus": "batteries",
        "Misc.testGetSystemCpuSetInformation": "sets of processors",
    },
    "test_security": {
        "DomainTests": "domains and directory services",
        "TestDS": "domains and directory services",
        "TestTranslate": "domains and directory services",
    },
    "handles": {
        "PyHandleTestCase.testOtherHandle": "GetProcAddress on sys.dllhandle, the DLL of Python",
    },
    "test_exceptions": {
        "TestCOMSimple": "COM: pythoncom.StgOpenStorage",
    },
}


def names_of_tests(file: Path) -> set[str]:
    """CLASS.TEST of all tests that a file defines, without importing it."""
    return {
        f"{node.name}.{member.name}"
        for node in ast.parse(file.read_text(encoding="utf-8")).body
        if isinstance(node, ast.ClassDef)
        for member in node.body
        if isinstance(member, ast.FunctionDef) and member.name.startswith("test")
    }


@pytest.mark.timeout(300)  # the first test of a session may have to fetch
def test_the_wheel_is_here(pywin32: Path) -> None:
    assert (pywin32 / "win32" / "test" / "test_win32pipe.py").is_file()


@pytest.mark.parametrize("file", TESTS)
def test_no_test_of_the_file_is_forgotten(pywin32: Path, file: str) -> None:
    excluded = EXCLUDED.get(file, {})
    there = names_of_tests(pywin32 / "win32" / "test" / f"{file}.py")
    applicable = {test for test in there if test not in excluded and test.partition(".")[0] not in excluded}
    assert applicable == set(TESTS[file])
    assert len(TESTS[file]) == len(set(TESTS[file]))


@pytest.mark.timeout(60)
@pytest.mark.parametrize(("file", "test"), [(file, test) for file, tests in TESTS.items() for test in tests])
def test_a_test_of_pywin32s_own_passes(pywin32: Path, tmp_path: Path, file: str, test: str) -> None:
    for number in range(6):  # one of the tests wants a folder with more than five
        (tmp_path / f"file {number}").touch()
    wheel = tmp_path / "wheel"  # two of them make their own path lower-case, and the checkout's may have capitals
    wheel.symlink_to(pywin32)
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", str(RUNNER), str(wheel), file, test],
        cwd=tmp_path,
        env={**os.environ, "TMPDIR": str(tmp_path), "TEMP": str(tmp_path), "TMP": str(tmp_path)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    if done.returncode == SKIPPED:
        pytest.skip(done.stdout.splitlines()[-1])
    assert done.returncode == 0, f"exit status {done.returncode}\n{done.stdout}"
    # An exception in a thread or a destructor of theirs does not fail a unittest.
    assert "Exception ignored in" not in done.stdout, done.stdout
    assert "Exception in thread" not in done.stdout, done.stdout
