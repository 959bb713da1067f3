"""A client as in Microsoft's "Named Pipe Client", in ctypes: argtypes for all, use_last_error, message mode.

Arguments: the pipe's name, then what to send; prints each reply.
"""

import ctypes
import sys
from ctypes import wintypes

kernel32 = ctypes.WinDLL("kernel32", use_last_error=True)

GENERIC_READ = 0x80000000
GENERIC_WRITE = 0x40000000
OPEN_EXISTING = 3
ERROR_PIPE_BUSY = 231
ERROR_MORE_DATA = 234
PIPE_READMODE_MESSAGE = 2
INVALID_HANDLE_VALUE = wintypes.HANDLE(-1).value
BUFSIZE = 512


def check_bool(result, func, args):
    if not result:
        raise ctypes.WinError(ctypes.get_last_error())
    return args


def check_handle(result, func, args):
    if result == INVALID_HANDLE_VALUE:
        raise ctypes.WinError(ctypes.get_last_error())
    return result


kernel32.CreateFileW.argtypes = (
    wintypes.LPCWSTR,
    wintypes.DWORD,
    wintypes.DWORD,
    wintypes.LPVOID,
    wintypes.DWORD,
    wintypes.DWORD,
    wintypes.HANDLE,
)
kernel32.CreateFileW.restype = wintypes.HANDLE
kernel32.CreateFileW.errcheck = check_handle
kernel32.WaitNamedPipeW.argtypes = (wintypes.LPCWSTR, wintypes.DWORD)
kernel32.WaitNamedPipeW.restype = wintypes.BOOL
kernel32.WaitNamedPipeW.errcheck = check_bool
kernel32.SetNamedPipeHandleState.argtypes = (wintypes.HANDLE, wintypes.LPDWORD, wintypes.LPDWORD, wintypes.LPDWORD)
kernel32.SetNamedPipeHandleState.restype = wintypes.BOOL
kernel32.SetNamedPipeHandleState.errcheck = check_bool
kernel32.WriteFile.argtypes = (
    wintypes.HANDLE,
    wintypes.LPCVOID,
    wintypes.DWORD,
    ctypes.POINTER(wintypes.DWORD),
    wintypes.LPVOID,
)
kernel32.WriteFile.restype = wintypes.BOOL
kernel32.WriteFile.errcheck = check_bool
kernel32.ReadFile.argtypes = (
    wintypes.HANDLE,
    wintypes.LPVOID,
    wintypes.DWORD,
    ctypes.POINTER(wintypes.DWORD),
    wintypes.LPVOID,
)
kernel32.ReadFile.restype = wintypes.BOOL
kernel32.CloseHandle.argtypes = (wintypes.HANDLE,)


def connect(name):
    while True:
        try:
            return kernel32.CreateFileW(name, GENERIC_READ | GENERIC_WRITE, 0, None, OPEN_EXISTING, 0, None)
        except OSError as error:
            if error.winerror != ERROR_PIPE_BUSY:
                raise
        kernel32.WaitNamedPipeW(name, 20000)


def receive(pipe):
    whole = b""
    while True:
        buffer = ctypes.create_string_buffer(BUFSIZE)
        count = wintypes.DWORD()
        if kernel32.ReadFile(pipe, buffer, BUFSIZE, ctypes.byref(count), None):
            return whole + buffer.raw[: count.value]
        if ctypes.get_last_error() != ERROR_MORE_DATA:
            raise ctypes.WinError(ctypes.get_last_error())
        whole += buffer.raw[: count.value]


def main():
    pipe = connect(sys.argv[1])
    kernel32.SetNamedPipeHandleState(pipe, ctypes.byref(wintypes.DWORD(PIPE_READMODE_MESSAGE)), None, None)
    for text in sys.argv[2:]:
        written = wintypes.DWORD()
        data = text.encode()
        kernel32.WriteFile(pipe, data, len(data), ctypes.byref(written), None)
        assert written.value == len(data)
        print(receive(pipe).decode())
    kernel32.CloseHandle(pipe)


main()
