r"""Microsoft's "Multithreaded Pipe Server", in Python.

    python examples/article/multithreaded_server.py         # until Ctrl-C

The main thread makes an instance, waits for a client, and leaves it to a thread of its own: blocking calls everywhere.
The steps are those of the list in README.md. On Windows it runs on pywin32 as it is.
"""

from __future__ import annotations

import sys
import threading

from npipe.win32 import pywintypes, win32file, win32pipe, winerror

NAME = r"\\.\pipe\mynamedpipe"
BUFSIZE = 512


def say(line: str) -> None:
    """Print a line in one piece: print's own newline is a second write, and another thread's may come between."""
    print(f"{line}\n", end="", flush=True)


def main() -> int:
    """Accept clients until Ctrl-C."""
    while True:
        say(f"\nPipe Server: Main thread awaiting client connection on {NAME}")
        try:  # 1
            pipe = win32pipe.CreateNamedPipe(
                NAME,
                win32pipe.PIPE_ACCESS_DUPLEX,  # read and write
                win32pipe.PIPE_TYPE_MESSAGE | win32pipe.PIPE_READMODE_MESSAGE | win32pipe.PIPE_WAIT,
                win32pipe.PIPE_UNLIMITED_INSTANCES,
                BUFSIZE,  # of what is written
                BUFSIZE,  # of what is read
                0,  # the default time-out, of 50 ms
                None,  # default security attributes
            )
        except pywintypes.error as error:
            print(f"CreateNamedPipe failed, GLE={error.winerror}.")
            return 1
        try:  # 2: 0, or ERROR_PIPE_CONNECTED if the client was there first
            win32pipe.ConnectNamedPipe(pipe, None)
        except pywintypes.error:
            win32file.CloseHandle(pipe)  # the client has gone already
            continue
        say("Client connected, creating a processing thread.")
        threading.Thread(target=instance_thread, args=(pipe,), daemon=True).start()  # 3


def instance_thread(pipe: pywintypes.HANDLEType) -> None:
    """Answer one client's requests until it closes."""
    say("InstanceThread created, receiving and processing messages.")
    while True:
        request = b""
        try:  # 4
            code = winerror.ERROR_MORE_DATA
            while code == winerror.ERROR_MORE_DATA:  # the article stops here: its requests have 512 bytes at most
                code, piece = win32file.ReadFile(pipe, BUFSIZE)
                request += bytes(piece)
        except pywintypes.error as error:
            if error.winerror == winerror.ERROR_BROKEN_PIPE:
                say("InstanceThread: client disconnected.")
            else:
                say(f"InstanceThread ReadFile failed, GLE={error.winerror}.")
            break
        try:  # 5
            win32file.WriteFile(pipe, get_answer_to_request(request))
        except pywintypes.error as error:
            say(f"InstanceThread WriteFile failed, GLE={error.winerror}.")
            break
    try:  # 6: the client may read what is left before it is disconnected
        win32file.FlushFileBuffers(pipe)
        win32pipe.DisconnectNamedPipe(pipe)
    except pywintypes.error:
        pass  # it has left
    win32file.CloseHandle(pipe)
    say("InstanceThread exiting.")


def get_answer_to_request(request: bytes) -> bytes:
    """Print the request, and return the answer that there is."""
    say(f'Client Request String:"{request.decode("utf-16-le", "replace").rstrip(chr(0))}"')
    return "Default answer from server\0".encode("utf-16-le")


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        print("ending")
