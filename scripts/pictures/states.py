"""An instance's states, how a client waits for one, and how a connection ends."""

from __future__ import annotations

from .canvas import Canvas, Theme


def instance(theme: Theme) -> Canvas:
    """Draw what becomes of an instance (SEMANTICS 3.1)."""
    c = Canvas(
        theme, 420, "The states of an instance",
        "CreateNamedPipe makes a listening instance. A client's open makes it connected. The client's close makes it"
        " closing: what it wrote can still be read. DisconnectNamedPipe makes a connected or closing instance"
        " disconnected, and what is unread is lost. ConnectNamedPipe makes a disconnected one listening again.",
    )  # fmt: skip
    c.text(96, 28, "CreateNamedPipe", anchor="middle", code=True)
    c.arrow((96, 38), (96, 72))
    c.box(16, 74, 160, 62, ("LISTENING", "a client may open"), colour="green")
    c.box(364, 74, 160, 62, ("CONNECTED", "both ends talk"), colour="blue")
    c.box(364, 312, 160, 62, ("CLOSING", "still readable"), colour="orange")
    c.box(16, 312, 160, 62, ("DISCONNECTED", "nobody may open"), colour="ink")
    c.arrow((178, 96), (362, 96))
    c.text(270, 86, "client opens", anchor="middle")
    c.arrow((480, 138), (480, 310))
    c.text(470, 290, "client closes", anchor="end")
    c.arrow((364, 138), (176, 310), colour="orange")
    c.arrow((362, 356), (178, 356), colour="orange")
    c.arrow((52, 310), (52, 138))
    c.text(62, 168, "ConnectNamedPipe", code=True)
    c.text(282, 236, "DisconnectNamedPipe", code=True, colour="orange")
    c.text(282, 258, "unread data is lost", colour="orange")
    c.text(270, 346, "the same", anchor="middle", colour="orange")
    c.text(270, 404, "the server closes its handle: it is gone", anchor="middle", colour="quiet")
    return c


def waits(theme: Theme) -> Canvas:
    """Draw a client that waits for the one instance there is (SEMANTICS 4)."""
    c = Canvas(
        theme, 470, "Two clients and one instance",
        "Time goes down. Client A opens the only instance. Client B's open fails with 231, busy, so it waits. A closes;"
        " that alone wakes nobody. The server disconnects and listens again: B's wait ends, and its open succeeds.",
    )  # fmt: skip
    a, s, b = 84, 270, 456
    for x, who in ((a, "client A"), (s, "the instance"), (b, "client B")):
        c.text(x, 30, who, anchor="middle", bold=True)
        c.line((x, 42), (x, 452), colour="quiet", wide=1)
    c.box(s - 62, 50, 124, 44, ("listening",), colour="green", bold=False)
    c.arrow((a, 108), (s - 64, 108), colour="blue")
    c.text(a + 8, 100, "opens", colour="blue")
    c.box(s - 62, 98, 124, 120, ("connected", "with A"), colour="blue", bold=False)
    c.arrow((b, 132), (s + 64, 132), colour="orange")
    c.text(b - 8, 124, "opens: 231", anchor="end", colour="orange")
    c.box(b - 62, 150, 124, 196, ("waits",), colour="orange", bold=False, dashed=True)
    c.arrow((a, 222), (s - 64, 222), colour="blue")
    c.text(a + 8, 214, "closes", colour="blue")
    c.box(s - 62, 222, 124, 62, ("closing:", "still busy"), colour="orange", bold=False)
    c.box(s - 62, 312, 124, 44, ("listening",), colour="green", bold=False)
    c.text(s - 72, 296, "disconnects,", anchor="end", colour="quiet")
    c.text(s - 72, 316, "listens again", anchor="end", colour="quiet")
    c.arrow((s + 64, 334), (b - 64, 334), colour="green")
    c.arrow((b, 388), (s + 64, 388), colour="blue")
    c.text(b - 8, 380, "opens", anchor="end", colour="blue")
    c.box(s - 62, 376, 124, 66, ("connected", "with B"), colour="blue", bold=False)
    return c


def ends(theme: Theme) -> Canvas:
    """Draw what the other side reads after a close, and after a disconnect (SEMANTICS 5.5)."""
    c = Canvas(
        theme, 300, "A close drains, a disconnect discards",
        "Two messages are unread. If their writer closes, the reader gets both, and then 109, the end. If the server"
        " disconnects, the reader gets 233 at once, and both messages are lost.",
    )  # fmt: skip
    c.text(16, 30, "Unread:", bold=True)
    at = c.bytes(110, 13, "one")
    c.bytes(at + 10, 13, "two", colour="green")
    c.box(16, 62, 246, 222, ())
    c.box(278, 62, 246, 222, ())
    c.text(139, 88, "the writer closes", anchor="middle", bold=True)
    c.text(401, 88, "the server disconnects", anchor="middle", bold=True)
    c.text(30, 127, "read")
    c.bytes(96, 109, "one")
    c.text(30, 167, "read")
    c.bytes(96, 149, "two", colour="green")
    c.text(30, 207, "read")
    c.text(96, 207, "109, the end", colour="orange")
    c.text(30, 247, "write")
    c.text(96, 247, "232", colour="orange")
    c.text(292, 127, "read")
    c.text(358, 127, "233", colour="orange")
    c.text(292, 167, "write")
    c.text(358, 167, "233", colour="orange")
    c.text(292, 207, "and the messages", colour="quiet")
    c.text(292, 229, "are lost, both ways", colour="quiet")
    return c
