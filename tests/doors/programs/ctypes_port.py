"""A server on a completion port, in ctypes, with structures made of c_ulong as many a program has them.

Arguments: the pipe's name, how many clients to serve. A client's message comes back in capitals, "long" 250 times.
"""

import ctypes
import sys
from ctypes import byref, c_ulong, c_void_p


class OVERLAPPED(ctypes.Structure):
    _fields_ = [
        ("Internal", c_void_p),
        ("InternalHigh", c_void_p),
        ("Offset", c_ulong),
        ("OffsetHigh", c_ulong),
        ("hEvent", c_void_p),
    ]


k32 = ctypes.windll.kernel32
k32.CreateNamedPipeW.restype = c_void_p
k32.CreateIoCompletionPort.restype = c_void_p
k32.CreateIoCompletionPort.argtypes = [c_void_p, c_void_p, c_void_p, c_ulong]
k32.GetQueuedCompletionStatus.argtypes = [
    c_void_p,
    ctypes.POINTER(c_ulong),
    ctypes.POINTER(c_void_p),
    ctypes.POINTER(ctypes.POINTER(OVERLAPPED)),
    c_ulong,
]
CONNECTED, READ, WROTE = range(3)


class Client:
    def __init__(self, port, key, name):
        self.pipe = c_void_p(k32.CreateNamedPipeW(name, 3 | 0x40000000, 6, 255, 4096, 4096, 0, None))
        assert k32.CreateIoCompletionPort(self.pipe, port, key, 0) == port
        self.overlapped = OVERLAPPED()
        self.buffer = (ctypes.c_ubyte * 4096)()
        self.state = CONNECTED
        if not k32.ConnectNamedPipe(self.pipe, byref(self.overlapped)):
            error = k32.GetLastError()
            if error == 535:
                k32.PostQueuedCompletionStatus(c_void_p(port), 0, c_void_p(key), byref(self.overlapped))
            elif error != 997:
                raise ctypes.WinError(error)

    def read(self):
        self.state = READ
        if not k32.ReadFile(self.pipe, byref(self.buffer), 4096, None, byref(self.overlapped)):
            return k32.GetLastError() == 997
        return True

    def write(self, data):
        self.state = WROTE
        self.data = data
        if not k32.WriteFile(self.pipe, data, len(data), None, byref(self.overlapped)):
            return k32.GetLastError() == 997
        return True


def main():
    name, number = sys.argv[1], int(sys.argv[2])
    port = k32.CreateIoCompletionPort(c_void_p(-1), None, None, 1)
    clients = {key: Client(port, key, name) for key in range(1, number + 1)}
    print("ready", flush=True)
    while clients:
        count, key, overlapped = c_ulong(), c_void_p(), ctypes.POINTER(OVERLAPPED)()
        done = k32.GetQueuedCompletionStatus(port, byref(count), byref(key), byref(overlapped), 0xFFFFFFFF)
        client = clients[key.value]
        assert ctypes.addressof(overlapped.contents) == ctypes.addressof(client.overlapped)
        goes_on = bool(done)
        if done and client.state == READ:
            data = bytes(client.buffer[: count.value]).upper()
            goes_on = client.write(data * 250 if data == b"LONG" else data)
        elif done:
            goes_on = client.read()
        if not goes_on:
            k32.CloseHandle(client.pipe)
            del clients[key.value]


main()
