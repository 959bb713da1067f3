"""A server as in Microsoft's "Multithreaded Pipe Server", in ctypes without any types: plain calls of windll.

Arguments: the pipe's name, how many clients to serve. A client's message comes back in capitals, repeated to 1000
bytes if it is "long".
"""

import ctypes
import sys
import threading
from ctypes import byref, c_ulong, create_string_buffer, windll

PIPE_ACCESS_DUPLEX = 0x3
PIPE_TYPE_MESSAGE = 0x4
PIPE_READMODE_MESSAGE = 0x2
PIPE_WAIT = 0x0
PIPE_UNLIMITED_INSTANCES = 255
BUFSIZE = 512
ERROR_PIPE_CONNECTED = 535
INVALID_HANDLE_VALUE = -1


def serve(pipe):
    request = create_string_buffer(BUFSIZE)
    count = c_ulong(0)
    while windll.kernel32.ReadFile(pipe, request, BUFSIZE, byref(count), None) == 1 and count.value:
        reply = request.raw[: count.value].upper()
        if reply == b"LONG":
            reply *= 250
        written = c_ulong(0)
        if not windll.kernel32.WriteFile(pipe, ctypes.c_char_p(reply), len(reply), byref(written), None):
            break
    windll.kernel32.FlushFileBuffers(pipe)
    windll.kernel32.DisconnectNamedPipe(pipe)
    windll.kernel32.CloseHandle(pipe)


def main():
    threads = []
    for number in range(int(sys.argv[2])):
        pipe = windll.kernel32.CreateNamedPipeA(
            sys.argv[1].encode(),
            PIPE_ACCESS_DUPLEX,
            PIPE_TYPE_MESSAGE | PIPE_READMODE_MESSAGE | PIPE_WAIT,
            PIPE_UNLIMITED_INSTANCES,
            BUFSIZE,
            BUFSIZE,
            0,
            None,
        )
        if pipe == INVALID_HANDLE_VALUE:
            raise ctypes.WinError()
        if number == 0:
            print("ready", flush=True)
        connected = windll.kernel32.ConnectNamedPipe(pipe, None)
        if not connected and windll.kernel32.GetLastError() != ERROR_PIPE_CONNECTED:
            raise ctypes.WinError()
        threads.append(threading.Thread(target=serve, args=(pipe,)))
        threads[-1].start()
    for thread in threads:
        thread.join()


main()
