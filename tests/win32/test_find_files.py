r"""Files by name: finding, attributes, copying; `\\.\pipe\*` among them; a pipe's device by numbers."""

from __future__ import annotations

import datetime as dt
import struct
import threading
from typing import TYPE_CHECKING, Any

import pytest

from npipe.win32 import (
    ntsecuritycon,
    pywintypes,
    win32api,
    win32con,
    win32event,
    win32file,
    win32pipe,
    win32timezone,
    winioctlcon,
)
from tests.win32.helpers import MESSAGE, MS, code_of, connected, create, open_client, with_event

if TYPE_CHECKING:
    from pathlib import Path

EPOCH_1601 = dt.datetime(1601, 1, 1, tzinfo=dt.UTC)


def own_part(name: str) -> str:
    return name.removeprefix("\\\\.\\pipe\\")


# --- Pipes


def test_pipes_are_found_by_patterns(name: str) -> None:
    handles = [create(name), create(name), create(name + ".other"), create(name + "\\below")]
    base = own_part(name)
    for find in (win32file.FindFilesW, win32api.FindFiles, lambda pattern: list(win32file.FindFilesIterator(pattern))):
        found = {entry[8]: entry for entry in find(r"\\.\pipe\*")}
        assert {base, base + ".other", base + "\\below"} <= set(found)
        assert found[base] == (
            win32con.FILE_ATTRIBUTE_NORMAL,
            EPOCH_1601,
            EPOCH_1601,
            EPOCH_1601,
            0,
            2,
            0,
            0,
            base,
            "",
        )
        assert [entry[8] for entry in find(name)] == [base]
        assert [entry[8] for entry in find(f"//./PIPE/{base.upper()}.*")] == [base + ".other"]
        assert [entry[8] for entry in find(rf"\\?\pipe\{base}?other")] == [base + ".other"]
        assert find(r"\\.\pipe\no-such-*") == []
    for handle in handles:
        handle.Close()
    assert win32file.FindFilesW(name + "*") == []


def test_a_pattern_that_is_none_has_windows_codes(name: str) -> None:
    assert code_of(win32file.FindFilesW, name + "\\*") == 3
    assert code_of(win32file.FindFilesW, r"\\server\pipe\*") == 53
    assert code_of(win32api.FindFiles, "/no/such/folder/*") == 3


def test_a_pipes_attributes_use_up_an_instance_that_listens(name: str) -> None:
    server = create(name, overlapped=False)
    assert win32file.GetFileAttributes(name) == win32con.FILE_ATTRIBUTE_NORMAL
    assert code_of(win32api.GetFileAttributes, name) == 231
    assert code_of(win32pipe.ConnectNamedPipe, server, None) == 232
    win32pipe.DisconnectNamedPipe(server)
    thread = threading.Thread(target=win32pipe.ConnectNamedPipe, args=(server, None))
    thread.start()
    win32pipe.WaitNamedPipe(name, MS)
    assert win32file.GetFileAttributesEx(name)[::4] == (win32con.FILE_ATTRIBUTE_NORMAL, 0)
    thread.join(60)
    server.Close()
    assert code_of(win32file.GetFileAttributes, name) == 2
    assert win32file.GetFileAttributes("\\\\.\\pipe\\") == win32con.FILE_ATTRIBUTE_DIRECTORY


def test_a_pipes_size_is_what_is_there_to_be_read(name: str) -> None:
    server, client = connected(name, overlapped=False)
    assert win32file.GetFileSize(server) == 0
    win32file.WriteFile(client, b"twelve bytes")
    assert win32file.GetFileSize(server) == 12
    for call in (win32file.GetFileTime, win32file.GetFileInformationByHandle, win32file.SetEndOfFile):
        assert code_of(call, server) == 1


# --- Files


def test_files_are_found_as_windows_finds_them(tmp_path: Path) -> None:
    (tmp_path / "One.TXT").write_text("1")
    (tmp_path / "two.txt").write_text("22")
    (tmp_path / "[odd]").mkdir()
    found = {entry[8]: entry for entry in win32file.FindFilesW(str(tmp_path / "*"))}
    assert set(found) == {".", "..", "One.TXT", "two.txt", "[odd]"}
    assert found["two.txt"][4:6] == (0, 2)
    assert found["[odd]"][0] == win32con.FILE_ATTRIBUTE_DIRECTORY
    assert abs(found["One.TXT"][3] - dt.datetime.now(tz=dt.UTC)) < dt.timedelta(minutes=1)
    assert {entry[8] for entry in win32api.FindFiles(str(tmp_path / "*.*"))} == set(found)
    assert [entry[8] for entry in win32api.FindFiles(str(tmp_path / "*.txt"))] == ["One.TXT", "two.txt"]
    assert [entry[8] for entry in win32api.FindFiles(str(tmp_path / "[odd*"))] == ["[odd]"]
    assert [entry[8] for entry in win32api.FindFiles(str(tmp_path / "two.txt"))] == ["two.txt"]
    assert win32api.FindFiles(str(tmp_path / "three.txt")) == []


def test_attributes_tell_folders_and_what_is_read_only(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"123")
    assert win32file.GetFileAttributes(str(tmp_path)) == win32con.FILE_ATTRIBUTE_DIRECTORY
    assert win32file.GetFileAttributes("\\\\?\\" + str(file)) == win32con.FILE_ATTRIBUTE_ARCHIVE
    win32api.SetFileAttributes(str(file), win32con.FILE_ATTRIBUTE_READONLY)
    assert win32file.GetFileAttributesW(str(file)) & win32con.FILE_ATTRIBUTE_READONLY
    assert not file.stat().st_mode & 0o222
    win32file.SetFileAttributesW(str(file), win32con.FILE_ATTRIBUTE_NORMAL)
    assert win32file.GetFileAttributesExW(str(file))[::4] == (win32con.FILE_ATTRIBUTE_ARCHIVE, 3)
    assert code_of(win32file.GetFileAttributes, str(tmp_path / "missing")) == 2
    with pytest.raises(NotImplementedError, match="transaction"):
        win32file.FindFilesW("x", Transaction=5)  # type: ignore[arg-type]


def test_files_are_copied_moved_and_removed(tmp_path: Path) -> None:
    one, two, folder = (str(tmp_path / name) for name in ("one", "two", "folder"))
    (tmp_path / "one").write_text("1")
    win32file.CopyFile(one, two, True)
    assert code_of(win32api.CopyFile, one, two, True) == 80
    assert code_of(win32file.MoveFile, one, two) == 183
    win32file.MoveFileEx(one, two, win32con.MOVEFILE_REPLACE_EXISTING)
    assert code_of(win32file.DeleteFile, one) == 2
    win32file.CreateDirectory(folder, None)
    assert code_of(win32file.CreateDirectory, folder, None) == 183
    assert code_of(win32file.CreateDirectory, folder + "/a/b", None) == 3
    win32file.MoveFile(two, folder + "/two")
    assert code_of(win32file.RemoveDirectory, folder) == 145
    win32api.DeleteFile(folder + "/two")
    win32file.RemoveDirectory(folder)
    assert code_of(win32file.DeleteFile, r"\\.\pipe\x") == 5
    name, number = win32api.GetTempFileName(str(tmp_path), "abcd", 0)
    assert (number, name) == (1, str(tmp_path / "abc1.tmp"))


def test_a_files_position_size_and_times(tmp_path: Path) -> None:
    path = str(tmp_path / "file")
    handle = win32file.CreateFile(path, win32file.GENERIC_READ | win32file.GENERIC_WRITE, 0, None, 1, 0, None)
    win32file.WriteFile(handle, b"0123456789")
    assert win32file.SetFilePointer(handle, -4, win32file.FILE_END) == 6
    assert win32file.ReadFile(handle, 100) == (0, b"6789")
    assert win32file.SetFilePointer(handle, 5, win32file.FILE_BEGIN) == 5
    win32file.SetEndOfFile(handle)
    assert win32file.GetFileSize(handle) == 5
    assert code_of(win32file.SetFilePointer, handle, -1, win32file.FILE_BEGIN) == 131
    assert code_of(win32file.SetFilePointer, handle, 0, 9) == 87
    when = win32timezone.utcnow().replace(microsecond=0) - dt.timedelta(days=3)
    win32file.SetFileTime(handle, when, when, when)
    assert win32file.GetFileTime(handle) == (when, when, when)
    later = when.astimezone(win32timezone.TimeZoneInfo.local()) + dt.timedelta(hours=1)
    win32file.SetFileTime(handle, LastWriteTime=later, UTCTimes=True)
    assert win32file.GetFileTime(handle)[1:] == (when, later)
    facts = win32file.GetFileInformationByHandle(handle)
    assert (facts[0], facts[3], facts[6], facts[7]) == (win32con.FILE_ATTRIBUTE_ARCHIVE, later, 5, 1)
    basic = win32file.GetFileInformationByHandleEx(handle, win32file.FileBasicInfo)
    assert basic["LastWriteTime"] == later
    assert win32file.GetFinalPathNameByHandle(handle, 0) == path
    with pytest.raises(TypeError, match="time object"):
        win32file.SetFileTime(handle, 5)  # type: ignore[arg-type]


# --- A pipe's device


def code(function: int, access: int = winioctlcon.FILE_ANY_ACCESS, method: int = winioctlcon.METHOD_BUFFERED) -> int:
    return winioctlcon.CTL_CODE(winioctlcon.FILE_DEVICE_NAMED_PIPE, function, method, access)


def test_the_codes_of_pipes_are_made_of_their_parts() -> None:
    assert code(3, ntsecuritycon.FILE_READ_DATA) == winioctlcon.FSCTL_PIPE_PEEK == 0x11400C
    assert code(5, 3, winioctlcon.METHOD_NEITHER) == winioctlcon.FSCTL_PIPE_TRANSCEIVE == 0x11C017
    assert code(6) == winioctlcon.FSCTL_PIPE_WAIT == 0x110018
    assert winioctlcon.DEVICE_TYPE_FROM_CTL_CODE(0x11C017) == winioctlcon.FILE_DEVICE_NAMED_PIPE


def test_a_pipe_is_peeked_at_by_number(name: str) -> None:
    server, client = connected(name, mode=MESSAGE, overlapped=False)
    win32file.WriteFile(client, b"first")
    win32file.WriteFile(client, b"second")
    header = struct.Struct("<4I")
    assert code_of(win32file.DeviceIoControl, server, winioctlcon.FSCTL_PIPE_PEEK, None, 16 + 5) == 234
    buffer = bytearray(64)
    assert win32file.ReadFile(server, 100) == (0, b"first")
    data = win32file.DeviceIoControl(server, winioctlcon.FSCTL_PIPE_PEEK, None, 64)
    assert data == header.pack(3, 6, 1, 6) + b"second"
    view = win32file.DeviceIoControl(server, winioctlcon.FSCTL_PIPE_PEEK, None, buffer)
    assert bytes(view) == data == bytes(buffer[:22])
    assert code_of(win32file.DeviceIoControl, server, winioctlcon.FSCTL_PIPE_PEEK, None, 8) == 122


def test_a_transaction_by_number(name: str) -> None:
    server, client = connected(name, mode=MESSAGE, overlapped=False)

    def answer() -> None:
        win32file.WriteFile(server, win32file.ReadFile(server, 100)[1].upper())

    thread = threading.Thread(target=answer)
    thread.start()
    assert win32file.DeviceIoControl(client, winioctlcon.FSCTL_PIPE_TRANSCEIVE, b"question", 100) == b"QUESTION"
    thread.join(60)


def test_an_overlapped_transaction_by_number(name: str) -> None:
    server, client = connected(name, mode=MESSAGE, overlapped=True)
    overlapped = with_event()
    buffer = win32file.DeviceIoControl(client, winioctlcon.FSCTL_PIPE_TRANSCEIVE, b"ask", 100, overlapped)
    read = with_event()
    win32file.ReadFile(server, 100, read)
    assert win32file.GetOverlappedResult(server, read, True) == 3
    win32file.WriteFile(server, b"told", with_event())
    assert win32event.WaitForSingleObject(overlapped.hEvent, MS) == 0
    assert bytes(buffer[: win32file.GetOverlappedResult(client, overlapped, True)]) == b"told"


def test_an_instance_listens_and_is_disconnected_by_number(name: str) -> None:
    server = create(name, overlapped=True)
    overlapped = with_event()
    win32file.DeviceIoControl(server, winioctlcon.FSCTL_PIPE_LISTEN, None, 0, overlapped)
    client = open_client(name, overlapped=False)
    assert win32event.WaitForSingleObject(overlapped.hEvent, MS) == 0
    assert code_of(win32file.DeviceIoControl, server, winioctlcon.FSCTL_PIPE_LISTEN, None, 0) == 535
    assert win32file.DeviceIoControl(server, winioctlcon.FSCTL_PIPE_DISCONNECT, None, 0) == b""
    assert code_of(win32file.WriteFile, client, b"x") == 233
    assert code_of(win32file.DeviceIoControl, server, 0x110999, None, 0) == 1
    assert code_of(win32file.DeviceIoControl, 0x7FFF, winioctlcon.FSCTL_PIPE_PEEK, None, 64) == 6


def test_a_wait_by_number_is_asked_of_the_root(name: str) -> None:
    root = win32file.CreateFile("\\\\.\\pipe\\", win32file.GENERIC_READ, 3, None, 3, 0, None)

    def wait(what: str, milliseconds: int) -> Any:
        text = what.encode("utf-16-le")
        request = struct.pack("<qI?x", -milliseconds * 10_000, len(text), True) + text
        return win32file.DeviceIoControl(root, winioctlcon.FSCTL_PIPE_WAIT, request, 0)

    assert code_of(wait, own_part(name), 10) == 2
    server = create(name, most=1)
    assert wait(own_part(name), 10) == b""
    open_client(name)
    assert code_of(wait, own_part(name), 10) == 121
    assert code_of(wait, "", 10) == 87
    server.Close()


# --- Times and GUIDs


def test_times_are_datetimes() -> None:
    when = pywintypes.Time(100)
    assert when == dt.datetime(1970, 1, 1, 0, 1, 40, tzinfo=dt.UTC)
    assert type(when) is pywintypes.TimeType
    assert isinstance(when, dt.datetime)
    assert when.Format("%Y") == "1970"
    assert pywintypes.Time(when) is when
    assert pywintypes.TimeStamp(0x7FFFFFFFFFFFFFFF) == dt.datetime.max  # noqa: DTZ901 - as pywin32
    assert pywintypes.TimeStamp(116444736000000000) == dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
    local = pywintypes.Time((2026, 5, 4, 3, 2, 1, 0, 124, -1, 250))
    assert (local.isoformat(), local.tzinfo) == ("2026-05-04T03:02:01.250000", None)
    for wrong, kind in (("text", TypeError), (object(), TypeError), ((1, 2), TypeError)):
        with pytest.raises(kind):
            pywintypes.Time(wrong)


def test_guids_are_equal_by_their_bytes() -> None:
    text = "{00020400-0000-0000-C000-000000000046}"
    guid = pywintypes.IID(text.lower())
    assert (str(guid), repr(guid)) == (text, f"IID('{text}')")
    assert pywintypes.IID(bytes(guid), True) == guid == pywintypes.IID(guid)
    assert hash(pywintypes.IID(bytes(guid), True)) == hash(guid)
    assert guid < pywintypes.IID("{10020400-0000-0000-C000-000000000046}")
    assert guid != text
    assert pywintypes.CreateGuid() != pywintypes.CreateGuid()
    with pytest.raises(pywintypes.com_error) as caught:
        pywintypes.IID("no.such.class")
    assert caught.value.hresult == -2147221005
    with pytest.raises(ValueError, match="at least 16"):
        pywintypes.IID(b"00", True)
    with pytest.raises(TypeError):
        pywintypes.IID(0, True)
