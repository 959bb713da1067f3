"""How a message goes, how it is read, and when its write is complete."""

from __future__ import annotations

from .canvas import Canvas, Colour, Theme


def message(theme: Theme) -> Canvas:
    """Draw the README's picture."""
    c = Canvas(
        theme, 340, "How a message goes",
        "A client sends a message into a ring of shared memory, and the server receives it from there; answers go"
        " through a second ring. The kernel is asked when they connect, to wake who sleeps, and tells who has died.",
    )  # fmt: skip
    c.text(270, 30, "A message is copied in, and copied out", anchor="middle", size=17, bold=True)
    for x, who, first, second in ((12, "client", "send(…)", "recv()"), (418, "server", "recv()", "send(…)")):
        c.box(x, 52, 110, 172, colour="ink")
        c.text(x + 55, 78, who, anchor="middle", bold=True)
        c.text(x + 55, 127, first, anchor="middle", code=True)
        c.text(x + 55, 189, second, anchor="middle", code=True)
    c.box(176, 52, 188, 172, colour="blue")
    c.text(270, 78, "shared memory", anchor="middle", bold=True, colour="blue")
    c.bytes(186, 108, "hello", colour="blue", cell=24)
    c.bytes(234, 170, "HELLO", colour="green", cell=24)
    c.text(270, 156, "two rings", anchor="middle", colour="quiet")
    c.arrow((122, 121), (182, 121), colour="blue")
    c.arrow((310, 121), (418, 121), colour="blue")
    c.arrow((418, 183), (358, 183), colour="green")
    c.arrow((230, 183), (122, 183), colour="green")
    c.box(12, 262, 516, 62, colour="quiet", dashed=True)
    c.text(270, 287, "the kernel: connects them, wakes who sleeps,", anchor="middle", colour="quiet")
    c.text(270, 309, "and tells who has died (a Unix socket, a futex)", anchor="middle", colour="quiet")
    for x in (67, 473):
        c.line((x, 224), (x, 262), colour="quiet", dashed=True)
    return c


def reading(theme: Theme) -> Canvas:
    """Draw what reads of each mode make of the same messages (SEMANTICS 5.1)."""
    c = Canvas(
        theme, 392, "Message reads and byte reads",
        "Three messages are queued in a pipe of message type: hello, npipe and an exclamation mark. A message read with"
        " room for 16 returns hello; with room for 3 it returns hel and the code 234, and the next one lo. A byte read"
        " with room for 16 returns all three, joined; with room for 3 it returns hel, and no code.",
    )  # fmt: skip
    c.text(16, 30, "Unread, in a pipe of message type", bold=True)
    at = c.bytes(16, 44, "hello")
    at = c.bytes(at + 12, 44, "npipe", colour="orange")
    c.bytes(at + 12, 44, "!", colour="green")
    c.line((16, 88), (524, 88), colour="quiet", wide=1)
    c.text(16, 114, "message read", bold=True)
    c.text(524, 114, "one message, or a part of one", anchor="end", colour="quiet")
    c.text(16, 149, "room for 16")
    c.bytes(130, 131, "hello")
    c.text(16, 189, "room for 3")
    c.bytes(130, 171, "hel")
    c.text(212, 189, "+ 234, more data", colour="orange")
    c.text(16, 229, "once more")
    c.bytes(130, 211, "lo")
    c.line((16, 254), (524, 254), colour="quiet", wide=1)
    c.text(16, 280, "byte read", bold=True)
    c.text(524, 280, "bytes, without boundaries", anchor="end", colour="quiet")
    c.text(16, 315, "room for 16")
    at = c.bytes(130, 297, "hello")
    at = c.bytes(at, 297, "npipe", colour="orange")
    c.bytes(at, 297, "!", colour="green")
    c.text(16, 355, "room for 3")
    c.bytes(130, 337, "hel")
    c.text(212, 355, "and no code", colour="quiet")
    return c


def more_data(theme: Theme) -> Canvas:
    """Draw one message in three reads (SEMANTICS 5.1)."""
    c = Canvas(
        theme, 338, "A message longer than the buffer",
        "A message of ten bytes is read with a buffer of four: the first two reads return four bytes each and the code"
        " 234, more data; the third returns the last two, and no code. Nothing is lost in between.",
    )  # fmt: skip
    c.text(16, 30, "One message of ten bytes, a buffer of four", bold=True)
    rows: tuple[tuple[int, int, str, Colour], ...] = (
        (0, 0, "10 left", "quiet"),
        (0, 4, "234, 6 left", "orange"),
        (4, 8, "234, 2 left", "orange"),
        (8, 10, "the end of it", "green"),
    )
    for number, (start, end, said, colour) in enumerate(rows):
        y = 56 + number * 54
        c.text(16, y + 18, f"read {number}" if number else "queued")
        c.bytes(90 + 24 * start, y, "abcdefghij"[start:end], colour="green")
        c.bytes(90 + 24 * end, y, "abcdefghij"[end:])
        c.text(524, y + 18, said, anchor="end", colour=colour)
    c.text(16, 286, "green: what the read returned; blue: what is left", colour="quiet")
    c.text(16, 312, "recv() does all three, and returns ten bytes", colour="quiet")
    return c


def quota(theme: Theme) -> Canvas:
    """Draw when a write over the quota is complete (SEMANTICS 6.1)."""
    c = Canvas(
        theme, 392, "A quota delays the writer, not the message",
        "The buffer size is 10, and 8 bytes are unread. A write of 5 is queued whole and can be read at once, but it is"
        " pending. When 3 bytes have been read, no more than 10 are unread, and the write is complete.",
    )  # fmt: skip
    c.text(16, 30, "Buffer size 10, and a write of 5", bold=True)
    left, cell = 16, 26
    steps = (
        ("8 bytes are unread", "........", "", ""),
        ("a write of 5: all of it is readable, and it waits", "........", "-----", "13 unread"),
        ("3 bytes are read: the write is complete", ".....", "-----", "10 unread"),
    )
    for number, (words, old, new, said) in enumerate(steps):
        y = 64 + number * 100
        c.text(left, y, words)
        colour: Colour = "orange" if number == 1 else "green"
        at = c.bytes(left, y + 14, old.replace(".", " "), cell=cell)
        c.bytes(at, y + 14, new.replace("-", " "), colour=colour, cell=cell)
        c.line((left + 10 * cell, y + 8), (left + 10 * cell, y + 48), colour="ink", wide=3)
        c.text(left + 10 * cell, y + 64, "10", anchor="middle", bold=True)
        if said:
            c.text(524, y + 33, said, anchor="end", colour=colour)
    c.text(16, 372, "blue: older messages; the black line: the quota", colour="quiet")
    return c
