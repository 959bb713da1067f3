r"""Microsoft's "Named Pipe Server Using Overlapped I/O", in Python.

    python examples/article/overlapped_server.py         # until Ctrl-C

One thread and four instances, each with an OVERLAPPED and its event. The thread waits for all events at once; the
instance whose event is set takes the next step of its state: connecting, reading or writing. A fifth client waits until
one of the four leaves. The steps are those of the list in README.md. On Windows it runs on pywin32 as it is.
"""

from __future__ import annotations

import sys

from npipe.win32 import pywintypes, win32event, win32file, win32pipe, winerror

NAME = r"\\.\pipe\mynamedpipe"
INSTANCES = 4
BUFSIZE = 4096
PIPE_TIMEOUT = 5000  # milliseconds
TICK = 500  # milliseconds: on Windows, Ctrl-C ends no wait

CONNECTING_STATE, READING_STATE, WRITING_STATE = range(3)


class PipeInst:
    """The article's PIPEINST."""

    def __init__(self) -> None:
        self.overlap = pywintypes.OVERLAPPED()
        self.overlap.hEvent = win32event.CreateEvent(None, True, True, None)  # 1: manual reset, set at first
        self.pipe = win32pipe.CreateNamedPipe(  # 2
            NAME,
            win32pipe.PIPE_ACCESS_DUPLEX | win32file.FILE_FLAG_OVERLAPPED,
            win32pipe.PIPE_TYPE_MESSAGE | win32pipe.PIPE_READMODE_MESSAGE | win32pipe.PIPE_WAIT,
            INSTANCES,
            BUFSIZE,
            BUFSIZE,
            PIPE_TIMEOUT,
            None,
        )
        self.request: memoryview = win32file.AllocateReadBuffer(BUFSIZE)
        self.reply = b""
        self.state = CONNECTING_STATE
        self.pending_io = False

    def connect_to_new_client(self) -> None:
        """Start ConnectNamedPipe. An overlapped one returns at once, with one of three codes."""
        code = win32pipe.ConnectNamedPipe(self.pipe, self.overlap)
        self.pending_io = code == winerror.ERROR_IO_PENDING
        self.state = CONNECTING_STATE if self.pending_io else READING_STATE
        if not self.pending_io:  # ERROR_PIPE_CONNECTED: the client was there first
            win32event.SetEvent(self.overlap.hEvent)

    def disconnect_and_reconnect(self) -> None:
        """Be done with a client, and let the instance wait for another one."""
        win32pipe.DisconnectNamedPipe(self.pipe)
        self.connect_to_new_client()

    def get_answer_to_request(self, count: int) -> None:
        """Print the request, and put the answer that there is into `reply`."""
        text = bytes(self.request[:count]).decode("utf-16-le", "replace").rstrip("\0")
        print(f"[{int(self.pipe)}] {text}", flush=True)
        self.reply = "Default answer from server\0".encode("utf-16-le")


def take_turn(instance: PipeInst) -> None:
    """Take the result of the instance's operation, if one was pending, and start the next one."""
    if instance.pending_io:  # 5
        count = win32file.GetOverlappedResult(instance.pipe, instance.overlap, False)
        instance.pending_io = False
        if instance.state == READING_STATE and count == 0:  # for the article an empty message is the end
            instance.disconnect_and_reconnect()
            return
        if instance.state == READING_STATE:
            instance.get_answer_to_request(count)
            instance.state = WRITING_STATE
        else:  # there is a client, or it has got its answer
            instance.state = READING_STATE
    # An operation that is over at once sets its event like any other: the next turn takes its result.
    if instance.state == READING_STATE:
        win32file.ReadFile(instance.pipe, instance.request, instance.overlap)  # 6
    else:
        win32file.WriteFile(instance.pipe, instance.reply, instance.overlap)  # 7
    instance.pending_io = True


def main() -> int:
    """Serve until Ctrl-C."""
    try:
        instances = [PipeInst() for _ in range(INSTANCES)]
    except pywintypes.error as error:
        print(f"CreateNamedPipe failed with {error.winerror}.")
        return 1
    for instance in instances:
        instance.connect_to_new_client()  # 3
    print(f"{INSTANCES} instances wait on {NAME}", flush=True)
    events = [instance.overlap.hEvent for instance in instances]
    while True:
        wait = win32event.WaitForMultipleObjects(events, False, TICK)  # 4
        if wait == win32event.WAIT_TIMEOUT:
            continue
        instance = instances[wait - win32event.WAIT_OBJECT_0]
        try:
            take_turn(instance)
        except pywintypes.error:  # 8: the client has left
            instance.disconnect_and_reconnect()


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        print("ending")
