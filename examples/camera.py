r"""A camera pipeline on numpy: frames go from process to process through shared memory, without a copy.

    python examples/camera.py camera                    # makes frames: a bright square that moves over a grey picture
    python examples/camera.py detector                  # finds the square in each frame
    python examples/camera.py viewer                    # prints where it was

each in a terminal of its own, in any order. The camera makes a frame where it is sent (`reserve`: a view of the pipe's
buffer), and the detector looks at it there (`recv_view`). A camera waits for nobody: while the buffer is full, frames
are dropped, and counted. `--every-frame` has it wait.

It needs numpy: pip install numpy
"""

from __future__ import annotations

import argparse
import contextlib
import struct
import sys
import time
from typing import TYPE_CHECKING

import npipe

try:
    import numpy as np
except ImportError:
    sys.exit("camera.py needs numpy, which is not installed: pip install numpy")

if TYPE_CHECKING:
    from numpy.typing import NDArray

FRAMES = r"\\.\pipe\example-frames"
FOUND = r"\\.\pipe\example-found"

HEADER = struct.Struct("<QIIII")  # number, height, width, and room up to 24 bytes: pixels begin on a multiple of 8
RESULT = struct.Struct("<Qdd")  # number, row, column

HEIGHT, WIDTH = 1080, 1920
SQUARE, BRIGHT = 16, 255


def place(number: int) -> tuple[int, int]:
    """Return where the square of a frame begins: row and column."""
    return number * 7 % (HEIGHT - SQUARE), number * 11 % (WIDTH - SQUARE)


def draw(pixels: NDArray[np.uint8], number: int) -> None:
    """Make a picture; a real camera's driver would write here."""
    pixels[:] = 100
    row, column = place(number)
    pixels[row : row + SQUARE, column : column + SQUARE] = BRIGHT


def find(pixels: NDArray[np.uint8]) -> tuple[float, float]:
    """Return the middle of what is bright; nan if nothing is."""
    rows, columns = np.nonzero(pixels == BRIGHT)
    return (float(rows.mean()), float(columns.mean())) if rows.size else (float("nan"), float("nan"))


# ---- The three programs


def send_frame(pipe: npipe.MessagePipe, number: int, timeout: float | None) -> None:
    """Make a frame in the pipe's buffer."""
    with pipe.reserve(HEADER.size + HEIGHT * WIDTH, timeout=timeout) as view:
        HEADER.pack_into(view, 0, number, HEIGHT, WIDTH, 0, 0)
        draw(np.frombuffer(view, np.uint8, offset=HEADER.size).reshape(HEIGHT, WIDTH), number)


def camera(count: int | None, fps: float, *, every_frame: bool) -> None:
    """Make `count` frames for one detector after the other; None: as long as somebody looks."""
    room = 3 * (HEADER.size + HEIGHT * WIDTH)  # for one that is made, one that is looked at, one between
    with npipe.listen(FRAMES, access="outbound", out_buffer_size=room) as listener:
        print(f"the camera is {listener.name}", flush=True)
        for pipe in listener:
            sent = dropped = number = 0
            begin = time.monotonic()
            with pipe, contextlib.suppress(npipe.PipeClosedError):  # the detector has left
                while count is None or number < count:
                    try:
                        send_frame(pipe, number, None if every_frame else 0)
                        sent += 1
                    except npipe.PipeTimeoutError:
                        dropped += 1
                    number += 1
                    if fps:
                        time.sleep(max(0.0, begin + number / fps - time.monotonic()))
            print(f"{sent} frames sent, {dropped} dropped", flush=True)
            if count is not None:
                return


def detector() -> None:
    """Find the square in each frame, and pass on where it is."""
    with (
        npipe.connect(FRAMES, access="read", wait_for_server=True, timeout=60) as frames,
        npipe.connect(FOUND, access="write", wait_for_server=True, timeout=60) as found,
    ):
        count = 0
        while True:
            try:
                found.send(detect(frames))
            except npipe.PipeClosedError:  # no more frames, or nobody who wants to know
                break
            count += 1
        print(f"{count} frames seen", flush=True)


def detect(frames: npipe.MessagePipe) -> bytes:
    """Look at the next frame where it lies."""
    with frames.recv_view() as view:
        number, height, width, _, _ = HEADER.unpack_from(view)
        pixels = np.frombuffer(view, np.uint8, offset=HEADER.size).reshape(height, width)
        row, column = find(pixels)
        del pixels  # nothing may look at the buffer when the block ends
        return RESULT.pack(number, row, column)


def viewer() -> None:
    """Print what the detector finds, until it ends."""
    with npipe.listen(FOUND, access="inbound") as listener, listener.accept() as pipe:
        for message in pipe:
            number, row, column = RESULT.unpack(message)
            print(f"frame {number}: the square is at row {row}, column {column}", flush=True)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="A camera pipeline on numpy.")
    roles = parser.add_subparsers(dest="role", required=True)
    making = roles.add_parser("camera", help="make frames")
    making.add_argument("--frames", type=int, metavar="N", help="end after N frames")
    making.add_argument("--fps", type=float, default=30, help="frames a second; 0: as many as it can (%(default)s)")
    making.add_argument("--every-frame", action="store_true", help="wait for the detector, and drop no frame")
    roles.add_parser("detector", help="find the square")
    roles.add_parser("viewer", help="print where it is")
    arguments = parser.parse_args()
    try:
        if arguments.role == "camera":
            camera(arguments.frames, arguments.fps, every_frame=arguments.every_frame)
        elif arguments.role == "detector":
            detector()
        else:
            viewer()
    except KeyboardInterrupt:
        pass
    except npipe.PipeError as error:  # the other two are not there, or one like this is there already
        sys.exit(str(error))


if __name__ == "__main__":
    main()
