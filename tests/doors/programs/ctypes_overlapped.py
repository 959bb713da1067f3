"""A server as in Microsoft's "Named Pipe Server Using Overlapped I/O", in ctypes: one thread, one event each instance.

Arguments: the pipe's name, how many clients to serve. A client's message comes back in capitals, "long" 250 times.
The structure has the fields that people give it: c_ulong for what is a pointer's size on Windows of 64 bits too.
"""

import ctypes
import sys
from ctypes import POINTER, Structure, byref, c_void_p, create_string_buffer, sizeof
from ctypes.wintypes import BOOL, DWORD, HANDLE, LPCWSTR, LPDWORD, LPVOID

ULONG_PTR = ctypes.c_ulonglong if sizeof(c_void_p) == 8 else ctypes.c_ulong


class OVERLAPPED(Structure):
    _fields_ = [
        ("Internal", ULONG_PTR),
        ("InternalHigh", ULONG_PTR),
        ("Offset", DWORD),
        ("OffsetHigh", DWORD),
        ("hEvent", HANDLE),
    ]


kernel32 = ctypes.WinDLL("kernel32.dll")
CreateNamedPipe = kernel32.CreateNamedPipeW
CreateNamedPipe.argtypes = [LPCWSTR, DWORD, DWORD, DWORD, DWORD, DWORD, DWORD, LPVOID]
CreateNamedPipe.restype = HANDLE
CreateEvent = kernel32.CreateEventW
CreateEvent.argtypes = [LPVOID, BOOL, BOOL, LPCWSTR]
CreateEvent.restype = HANDLE
ConnectNamedPipe = kernel32.ConnectNamedPipe
ConnectNamedPipe.argtypes = [HANDLE, POINTER(OVERLAPPED)]
ReadFile = kernel32.ReadFile
ReadFile.argtypes = [HANDLE, LPVOID, DWORD, LPDWORD, POINTER(OVERLAPPED)]
WriteFile = kernel32.WriteFile
WriteFile.argtypes = [HANDLE, LPVOID, DWORD, LPDWORD, POINTER(OVERLAPPED)]
GetOverlappedResult = kernel32.GetOverlappedResult
GetOverlappedResult.argtypes = [HANDLE, POINTER(OVERLAPPED), LPDWORD, BOOL]
WaitForMultipleObjects = kernel32.WaitForMultipleObjects
WaitForMultipleObjects.argtypes = [DWORD, POINTER(HANDLE), BOOL, DWORD]
WaitForMultipleObjects.restype = DWORD
DisconnectNamedPipe = kernel32.DisconnectNamedPipe
DisconnectNamedPipe.argtypes = [HANDLE]
SetEvent = kernel32.SetEvent
SetEvent.argtypes = [HANDLE]

INSTANCES = 4
BUFSIZE = 4096
PIPE_TIMEOUT = 5000
INFINITE = 0xFFFFFFFF
ERROR_IO_PENDING = 997
ERROR_PIPE_CONNECTED = 535
CONNECTING, READING, WRITING = range(3)


class Instance:
    def __init__(self, name):
        self.event = CreateEvent(None, True, True, None)
        self.overlapped = OVERLAPPED()
        self.overlapped.hEvent = self.event
        self.request = create_string_buffer(BUFSIZE)
        self.pipe = CreateNamedPipe(name, 3 | 0x40000000, 4 | 2, INSTANCES, BUFSIZE, BUFSIZE, PIPE_TIMEOUT, None)
        if self.pipe == c_void_p(-1).value:
            raise ctypes.WinError()
        self.connect()

    def connect(self):
        assert not ConnectNamedPipe(self.pipe, byref(self.overlapped))
        error = kernel32.GetLastError()
        self.pending = error == ERROR_IO_PENDING
        self.state = CONNECTING if self.pending else READING
        if error == ERROR_PIPE_CONNECTED:
            SetEvent(self.event)
        elif not self.pending:
            raise ctypes.WinError(error)

    def reconnect(self):
        DisconnectNamedPipe(self.pipe)
        self.connect()


def main():
    name, clients = sys.argv[1], int(sys.argv[2])
    instances = [Instance(name) for _ in range(INSTANCES)]
    events = (HANDLE * INSTANCES)(*[instance.event for instance in instances])
    print("ready", flush=True)
    while clients:
        index = WaitForMultipleObjects(INSTANCES, events, False, INFINITE)
        instance = instances[index]
        count = DWORD()
        if instance.pending:
            done = GetOverlappedResult(instance.pipe, byref(instance.overlapped), byref(count), False)
            if instance.state == CONNECTING:
                assert done
                instance.state = READING
            elif instance.state == READING:
                if not done or count.value == 0:
                    clients -= 1
                    instance.reconnect()
                    continue
                instance.reply = instance.request.raw[: count.value].upper()
                instance.state = WRITING
            else:
                if not done or count.value != len(instance.reply):
                    clients -= 1
                    instance.reconnect()
                    continue
                instance.state = READING
        if instance.state == READING:
            done = ReadFile(instance.pipe, instance.request, BUFSIZE, byref(count), byref(instance.overlapped))
            if done and count.value:
                instance.pending = False
                instance.reply = instance.request.raw[: count.value].upper()
                instance.state = WRITING
            elif not done and kernel32.GetLastError() == ERROR_IO_PENDING:
                instance.pending = True
                continue
            else:
                clients -= 1
                instance.reconnect()
                continue
        if instance.reply == b"LONG":
            instance.reply *= 250
        done = WriteFile(instance.pipe, instance.reply, len(instance.reply), byref(count), byref(instance.overlapped))
        if done and count.value == len(instance.reply):
            instance.pending = False
            instance.state = READING
        elif not done and kernel32.GetLastError() == ERROR_IO_PENDING:
            instance.pending = True
        else:
            clients -= 1
            instance.reconnect()


main()
