"""The engine on Linux, and who is trusted with what."""

from __future__ import annotations

from .canvas import Canvas, Colour, Theme


def connecting(theme: Theme) -> Canvas:
    """Draw how a client finds a server and gets its memory (protocol.md, 1 and 3)."""
    c = Canvas(
        theme, 404, "How two processes meet",
        "The client finds a folder with the pipe's name, and in it the server's Unix socket. It asks there for an"
        " instance. The server asks the kernel who that is, and answers with a descriptor of new shared memory, which"
        " both map. The socket stays, for hang-ups and wakes.",
    )  # fmt: skip
    a, s = 96, 444
    c.box(16, 16, 160, 44, ("client",))
    c.box(364, 16, 160, 44, ("server",))
    c.line((a, 60), (a, 392), colour="quiet", wide=1)
    c.line((s, 60), (s, 392), colour="quiet", wide=1)
    c.box(190, 74, 160, 60, ("a folder", "with its socket"), colour="quiet", bold=False, dashed=True)
    c.arrow((a, 92), (188, 92))
    c.text(104, 84, "1 name")
    c.arrow((s, 92), (352, 92), colour="quiet")
    c.arrow((a, 174), (s, 174), colour="blue")
    c.text(270, 165, "2  may I have an instance?", anchor="middle", colour="blue")
    c.text(s - 10, 212, "3  who is that? (the kernel's word)", anchor="end", colour="orange")
    c.arrow((s, 250), (a, 250), colour="green")
    c.text(270, 241, "4  here: shared memory", anchor="middle", colour="green")
    c.box(112, 272, 316, 60, ("shared memory: two rings", "every message from now on"), colour="green")
    c.arrow((a, 302), (110, 302), colour="green")
    c.arrow((s, 302), (430, 302), colour="green")
    c.line((a, 362), (s, 362), colour="quiet", dashed=True)
    c.text(270, 384, "the socket stays: hang-up, wakes", anchor="middle", colour="quiet")
    return c


def ring(theme: Theme) -> Canvas:
    """Draw a ring, and who moves what (protocol.md, 4 and 5)."""
    c = Canvas(
        theme, 352, "A ring",
        "The bytes of one direction. Between head and tail stand the unread entries, each a header and its payload."
        " The writer copies an entry behind the tail and then moves the tail. The reader copies out what stands at the"
        " head and then moves the head. What is behind the head is free again.",
    )  # fmt: skip
    c.text(16, 30, "The bytes of one direction", bold=True)
    at = c.bytes(16, 64, "   ", colour="quiet")
    head = at
    at = c.bytes(at, 64, "5hello")
    at = c.bytes(at, 64, "3abc", colour="green")
    tail = at
    c.bytes(at, 64, " " * 8, colour="quiet")
    for x, word in ((head, "head"), (tail, "tail")):
        c.arrow((x, 120), (x, 94))
        c.text(x, 138, word, anchor="middle", bold=True)
    c.text(tail + 40, 124, "free", colour="quiet")
    c.box(16, 160, 248, 176, ())
    c.box(276, 160, 248, 176, ())
    c.text(28, 186, "the writer", bold=True)
    c.lines(28, 214, ("1  enough quota?", "2  copies behind tail", "3  moves tail", "4  wakes a sleeper"), step=28)
    c.text(288, 186, "the reader", bold=True)
    c.lines(288, 214, ("1  has tail moved?", "2  checks the header", "3  copies out", "4  moves head"), step=28)
    return c


def waiting(theme: Theme) -> Canvas:
    """Draw what a call does that has nothing to do yet (design.md, "Waiting and waking")."""
    c = Canvas(
        theme, 330, "A wait tries, spins, and then sleeps",
        "A call first tries, with the interpreter's lock held. If there is nothing it lets go of the lock and spins, up"
        " to 60 microseconds. If there is still nothing it sets a flag, looks again, and sleeps until the peer sees the"
        " flag and wakes it.",
    )  # fmt: skip
    rows: tuple[tuple[str, str, str, Colour], ...] = (
        ("tries", "with Python's lock: the usual case", "send and recv: some 0.1 µs", "green"),
        ("spins", "without the lock: the peer is at it", "up to 60 µs", "blue"),
        ("sleeps", "flag, look again, futex or socket", "a wake: some 30 µs", "orange"),
    )
    for number, (what, how, cost, colour) in enumerate(rows):
        y = 16 + number * 104
        c.box(16, y, 112, 76, (what,), colour=colour)
        c.text(144, y + 32, how)
        c.text(144, y + 58, cost, colour=colour)
        if number < 2:
            c.arrow((72, y + 76), (72, y + 102))
            c.text(144, y + 96, "nothing there", colour="quiet")
    c.text(524, 312, "done: at any step", anchor="end", colour="quiet")
    return c


def trust(theme: Theme) -> Canvas:
    """Draw three clients and what each can do (SECURITY.md)."""
    c = Canvas(
        theme, 416, "Three clients of one server",
        "A client of the same user is trusted. A client of another user, whom the access rule lets in, has memory of"
        " its own with the server: it can end its own connection, and no more. A client whom the rule does not let in"
        " is refused by the kernel's word on who it is.",
    )  # fmt: skip
    rows: tuple[tuple[str, str, str, str, Colour], ...] = (
        ("same user", "shared memory", "trusted: it could stop", "the server anyway", "green"),
        ("let in", "shared memory", "all it writes is checked:", "it can end its own link", "orange"),
        ("anyone else", "", "refused (5): who it is,", "the kernel says", "ink"),
    )
    for number, (who, memory, first, second, colour) in enumerate(rows):
        y = 16 + number * 132
        c.box(16, y, 130, 60, (who,), colour=colour)
        c.box(400, y, 124, 60, ("server",), colour="blue")
        if memory:
            c.box(196, y + 8, 154, 44, (memory,), colour=colour, bold=False)
            c.arrow((196, y + 30), (148, y + 30), colour=colour)
            c.arrow((350, y + 30), (398, y + 30), colour=colour)
        else:
            c.arrow((148, y + 30), (372, y + 30), colour=colour, dashed=True)
            c.line((376, y + 8), (376, y + 52), colour="orange", wide=5)
        c.text(16, y + 84, first)
        c.text(16, y + 106, second)
    return c
