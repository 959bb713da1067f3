"""A server as in Microsoft's "Named Pipe Server Using Completion Routines", in ctypes.

Arguments: the pipe's name, how many clients to serve. A client's message comes back in capitals, "long" 250 times.
The structure of an instance begins with its OVERLAPPED, and is found again from the routine's pointer.
"""

import ctypes
import sys
from ctypes import wintypes

kernel32 = ctypes.WinDLL("kernel32", use_last_error=True)
BUFSIZE = 4096
INFINITE = -1
WAIT_IO_COMPLETION = 0xC0


class OffsetStruct(ctypes.Structure):
    _fields_ = [("Offset", wintypes.DWORD), ("OffsetHigh", wintypes.DWORD)]


class OffsetUnion(ctypes.Union):
    _anonymous_ = ("s",)
    _fields_ = [("s", OffsetStruct), ("Pointer", wintypes.LPVOID)]


class OVERLAPPED(ctypes.Structure):
    _anonymous_ = ("u",)
    _fields_ = [
        ("Internal", wintypes.WPARAM),
        ("InternalHigh", wintypes.WPARAM),
        ("u", OffsetUnion),
        ("hEvent", wintypes.HANDLE),
    ]


class PIPEINST(ctypes.Structure):
    _fields_ = [
        ("oOverlap", OVERLAPPED),
        ("hPipeInst", wintypes.HANDLE),
        ("chRequest", ctypes.c_char * BUFSIZE),
        ("cbRead", wintypes.DWORD),
        ("chReply", ctypes.c_char * BUFSIZE),
        ("cbToWrite", wintypes.DWORD),
    ]


ROUTINE = ctypes.WINFUNCTYPE(None, wintypes.DWORD, wintypes.DWORD, ctypes.POINTER(OVERLAPPED))
for name in ("ReadFileEx", "WriteFileEx"):
    function = getattr(kernel32, name)
    function.argtypes = [wintypes.HANDLE, wintypes.LPVOID, wintypes.DWORD, ctypes.POINTER(OVERLAPPED), ROUTINE]
    function.restype = wintypes.BOOL
kernel32.CreateNamedPipeW.restype = wintypes.HANDLE
kernel32.CreateEventW.restype = wintypes.HANDLE

alive = {}
served = 0


def close(instance):
    global served
    kernel32.DisconnectNamedPipe(wintypes.HANDLE(instance.hPipeInst))
    kernel32.CloseHandle(wintypes.HANDLE(instance.hPipeInst))
    del alive[ctypes.addressof(instance)]
    served += 1


@ROUTINE
def completed_write(error, written, overlapped):
    instance = ctypes.cast(overlapped, ctypes.POINTER(PIPEINST)).contents
    reads = False
    if error == 0 and written == instance.cbToWrite:
        reads = kernel32.ReadFileEx(
            instance.hPipeInst,
            ctypes.addressof(instance) + PIPEINST.chRequest.offset,
            BUFSIZE,
            overlapped,
            completed_read,
        )
    if not reads:
        close(alive[ctypes.addressof(instance)])


@ROUTINE
def completed_read(error, count, overlapped):
    instance = ctypes.cast(overlapped, ctypes.POINTER(PIPEINST)).contents
    writes = False
    if error == 0 and count != 0:
        assert instance.oOverlap.InternalHigh == count
        request = ctypes.string_at(ctypes.addressof(instance) + PIPEINST.chRequest.offset, count)
        reply = request.upper() * (250 if request == b"long" else 1)
        ctypes.memmove(ctypes.addressof(instance) + PIPEINST.chReply.offset, reply, len(reply))
        instance.cbToWrite = len(reply)
        writes = kernel32.WriteFileEx(
            instance.hPipeInst,
            ctypes.addressof(instance) + PIPEINST.chReply.offset,
            instance.cbToWrite,
            overlapped,
            completed_write,
        )
    if not writes:
        close(alive[ctypes.addressof(instance)])


def create_and_connect(name, connect):
    pipe = kernel32.CreateNamedPipeW(name, 3 | 0x40000000, 4 | 2, 255, BUFSIZE, BUFSIZE, 5000, None)
    assert pipe != wintypes.HANDLE(-1).value, ctypes.WinError(ctypes.get_last_error())
    assert not kernel32.ConnectNamedPipe(wintypes.HANDLE(pipe), ctypes.byref(connect))
    error = ctypes.get_last_error()
    if error == 535:
        assert kernel32.SetEvent(wintypes.HANDLE(connect.hEvent))
    elif error != 997:
        raise ctypes.WinError(error)
    return pipe, error == 997


def main():
    name, clients = sys.argv[1], int(sys.argv[2])
    connect = OVERLAPPED()
    connect.hEvent = kernel32.CreateEventW(None, True, True, None)
    pipe, pending = create_and_connect(name, connect)
    print("ready", flush=True)
    while served < clients:
        result = kernel32.WaitForSingleObjectEx(wintypes.HANDLE(connect.hEvent), INFINITE, True)
        if result == 0:
            if pending:
                count = wintypes.DWORD()
                assert kernel32.GetOverlappedResult(
                    wintypes.HANDLE(pipe), ctypes.byref(connect), ctypes.byref(count), False
                )
            instance = PIPEINST()
            alive[ctypes.addressof(instance)] = instance
            instance.hPipeInst = pipe
            instance.cbToWrite = 0
            completed_write(0, 0, ctypes.cast(ctypes.pointer(instance), ctypes.POINTER(OVERLAPPED)))
            pipe, pending = create_and_connect(name, connect)
        else:
            assert result == WAIT_IO_COMPLETION, result


main()
