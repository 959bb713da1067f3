r"""Microsoft's "Named Pipe Server Using Completion Routines", in Python.

    python examples/article/completion_server.py         # until Ctrl-C

One thread, and an instance for each client. Reads and writes are started with ReadFileEx and WriteFileEx and go on in
their completion routines, which run while the thread waits: a read that is over starts a write, a write that is over
starts a read. The steps are those of the list in README.md. pywin32 has no completion routines;
npipe.win32.completion has them, on Windows too.
"""

from __future__ import annotations

import sys

from npipe.win32 import pywintypes, win32event, win32file, win32pipe, winerror
from npipe.win32.completion import ReadFileEx, WriteFileEx

NAME = r"\\.\pipe\mynamedpipe"
BUFSIZE = 4096
PIPE_TIMEOUT = 5000  # milliseconds
TICK = 500  # milliseconds: on Windows, Ctrl-C ends no wait


class PipeInst:
    """The article's PIPEINST."""

    def __init__(self, pipe: pywintypes.HANDLEType) -> None:
        self.pipe = pipe
        self.overlap = pywintypes.OVERLAPPED()
        self.overlap.object = self  # for the routines; in C the OVERLAPPED is the first thing in the struct
        self.request = bytearray(BUFSIZE)
        self.reply = b""

    def disconnect_and_close(self) -> None:
        """Be done with a client."""
        try:
            win32pipe.DisconnectNamedPipe(self.pipe)
        except pywintypes.error as error:
            print(f"DisconnectNamedPipe failed with {error.winerror}.", flush=True)
        win32file.CloseHandle(self.pipe)
        self.overlap.object = None

    def get_answer_to_request(self, count: int) -> None:
        """Print the request, and put the answer that there is into `reply`."""
        text = self.request[:count].decode("utf-16-le", "replace").rstrip("\0")
        print(f"[{int(self.pipe)}] {text}", flush=True)
        self.reply = "Default answer from server\0".encode("utf-16-le")


def completed_write_routine(code: int, count: int, overlap: pywintypes.OVERLAPPEDType) -> None:
    """Read the next request: an answer has been written, or there is a new client."""
    instance: PipeInst = overlap.object
    reads = False
    if code == 0 and count == len(instance.reply):
        try:
            ReadFileEx(instance.pipe, instance.request, overlap, completed_read_routine)  # 6
            reads = True
        except pywintypes.error:
            pass
    if not reads:
        instance.disconnect_and_close()  # 8


def completed_read_routine(code: int, count: int, overlap: pywintypes.OVERLAPPEDType) -> None:
    """Write the answer: a request has been read."""
    instance: PipeInst = overlap.object
    writes = False
    if code == 0 and count != 0:
        instance.get_answer_to_request(count)
        try:
            WriteFileEx(instance.pipe, instance.reply, overlap, completed_write_routine)  # 7
            writes = True
        except pywintypes.error:
            pass
    if not writes:
        instance.disconnect_and_close()


def create_and_connect_instance(connect: pywintypes.OVERLAPPEDType) -> tuple[pywintypes.HANDLEType, bool]:
    """Make an instance and start ConnectNamedPipe; return it, and whether that is pending."""
    pipe = win32pipe.CreateNamedPipe(  # 2
        NAME,
        win32pipe.PIPE_ACCESS_DUPLEX | win32file.FILE_FLAG_OVERLAPPED,
        win32pipe.PIPE_TYPE_MESSAGE | win32pipe.PIPE_READMODE_MESSAGE | win32pipe.PIPE_WAIT,
        win32pipe.PIPE_UNLIMITED_INSTANCES,
        BUFSIZE,
        BUFSIZE,
        PIPE_TIMEOUT,
        None,
    )
    code = win32pipe.ConnectNamedPipe(pipe, connect)  # 3
    if code == winerror.ERROR_PIPE_CONNECTED:  # the client was there first
        win32event.SetEvent(connect.hEvent)
    return pipe, code == winerror.ERROR_IO_PENDING


def main() -> int:
    """Serve until Ctrl-C."""
    connect = pywintypes.OVERLAPPED()
    connect.hEvent = win32event.CreateEvent(None, True, True, None)  # 1: manual reset, set at first
    try:
        pipe, pending = create_and_connect_instance(connect)
        print(f"waiting on {NAME}", flush=True)
        while True:
            wait = win32event.WaitForSingleObjectEx(connect.hEvent, TICK, True)  # 4: routines run in here
            if wait != win32event.WAIT_OBJECT_0:
                continue  # WAIT_IO_COMPLETION: a routine has run
            if pending:  # 5
                win32file.GetOverlappedResult(pipe, connect, False)
            instance = PipeInst(pipe)
            completed_write_routine(0, 0, instance.overlap)  # as if an answer had just been written
            pipe, pending = create_and_connect_instance(connect)
    except pywintypes.error as error:
        print(f"{error.funcname} failed with {error.winerror}.")
        return 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        print("ending")
