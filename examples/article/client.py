r"""Microsoft's "Named Pipe Client", in Python.

    python examples/article/client.py [MESSAGE]

It prints what the article's program prints. The steps are those of the list in README.md; each has its number here.
On Windows it runs on pywin32 as it is. Start a server first.
"""

from __future__ import annotations

import codecs
import sys

from npipe.win32 import pywintypes, win32con, win32file, win32pipe, winerror

NAME = r"\\.\pipe\mynamedpipe"
BUFSIZE = 512


def main() -> int:
    """Send one message and print the reply."""
    message = sys.argv[1] if len(sys.argv) > 1 else "Default message from client."

    while True:  # 1
        try:
            pipe = win32file.CreateFile(
                NAME,
                win32con.GENERIC_READ | win32con.GENERIC_WRITE,
                0,  # no sharing
                None,  # default security attributes
                win32con.OPEN_EXISTING,
                0,  # default attributes
                None,  # no template
            )
            break
        except pywintypes.error as error:
            if error.winerror != winerror.ERROR_PIPE_BUSY:
                print(f"Could not open pipe. GLE={error.winerror}")
                return 1
        try:  # 2
            win32pipe.WaitNamedPipe(NAME, 20000)
        except pywintypes.error:
            print("Could not open pipe: 20 second wait timed out.")
            return 1

    try:  # 3
        win32pipe.SetNamedPipeHandleState(pipe, win32pipe.PIPE_READMODE_MESSAGE, None, None)
    except pywintypes.error as error:
        print(f"SetNamedPipeHandleState failed. GLE={error.winerror}")
        return 1

    data = (message + "\0").encode("utf-16-le")  # what TCHAR is in a Unicode build, and its NUL
    print(f'Sending {len(data)} byte message: "{message}"')
    try:  # 4
        win32file.WriteFile(pipe, data)
    except pywintypes.error as error:
        print(f"WriteFile to pipe failed. GLE={error.winerror}")
        return 1

    print("\nMessage sent to server, receiving reply as follows:")
    decoder = codecs.getincrementaldecoder("utf-16-le")("replace")  # a character may lie across two pieces
    more = True
    while more:  # 5
        try:
            code, piece = win32file.ReadFile(pipe, BUFSIZE)
        except pywintypes.error as error:
            print(f"ReadFile from pipe failed. GLE={error.winerror}")
            return 1
        more = code == winerror.ERROR_MORE_DATA
        print('"' + decoder.decode(bytes(piece)).rstrip("\0") + '"')

    print("\n<End of message, press ENTER to terminate connection and exit>", flush=True)
    sys.stdin.readline()
    win32file.CloseHandle(pipe)  # 6
    return 0


if __name__ == "__main__":
    sys.exit(main())
