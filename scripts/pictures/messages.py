"""How a message goes, how it is read, and when its write is complete."""

from __future__ import annotations

from .canvas import Canvas, Theme


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
