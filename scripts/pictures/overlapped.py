"""Operations that a program starts and does not wait for."""

from __future__ import annotations

from .canvas import Canvas, Theme


def overlapped(theme: Theme) -> Canvas:
    """Draw an overlapped read from its start to its result (SEMANTICS 5.3, 10.3, 10.6)."""
    c = Canvas(
        theme, 452, "An overlapped read",
        "Time goes down. The program starts a read of an empty pipe and gets 997: it is pending. The program goes on."
        " A message comes into the program's buffer, and the program is told by an event, a packet at a completion"
        " port, or a completion routine. GetOverlappedResult has the number of bytes.",
    )  # fmt: skip
    p, s = 110, 430
    c.text(p, 30, "the program", anchor="middle", bold=True)
    c.text(s, 30, "the pipe", anchor="middle", bold=True)
    c.line((p, 42), (p, 436), colour="quiet", wide=1)
    c.line((s, 42), (s, 436), colour="quiet", wide=1)
    c.arrow((p, 76), (s, 76), colour="blue")
    c.text(270, 66, "ReadFile(…, overlapped)", anchor="middle", code=True, colour="blue")
    c.arrow((s, 108), (p, 108), colour="orange")
    c.text(270, 129, "997, pending", anchor="middle", colour="orange")
    c.box(p - 86, 140, 172, 76, ("goes on", "with other things"), bold=False)
    c.box(s - 94, 140, 188, 76, ("owns the buffer", "until it is over"), colour="orange", bold=False)
    c.bytes(s - 60, 230, "hello", colour="green")
    c.box(142, 270, 256, 86, (), colour="green")
    c.lines(156, 292, ("event: is set, or", "port: gets a packet, or", "routine: is queued"), colour="green", step=24)
    c.arrow((s, 313), (400, 313), colour="green")
    c.arrow((140, 313), (p, 313), colour="green")
    c.arrow((p, 396), (s, 396), colour="blue")
    c.text(270, 386, "GetOverlappedResult", anchor="middle", code=True, colour="blue")
    c.arrow((s, 422), (p, 422), colour="green")
    c.text(270, 442, "5 bytes", anchor="middle", colour="green")
    return c


def routines(theme: Theme) -> Canvas:
    """Draw when completion routines run (SEMANTICS 10.5)."""
    c = Canvas(
        theme, 400, "Completion routines run in a wait",
        "Time goes down. A thread starts two reads with routines A and B. While it computes, both messages come: the"
        " routines are queued to that thread, and none runs. In its next alertable wait A runs, then B, and the wait"
        " returns 192.",
    )  # fmt: skip
    t, q = 120, 420
    c.text(t, 30, "the thread", anchor="middle", bold=True)
    c.text(q, 30, "its queue", anchor="middle", bold=True)
    c.line((t, 42), (t, 386), colour="quiet", wide=1)
    c.line((q, 42), (q, 386), colour="quiet", wide=1)
    c.box(t - 104, 52, 208, 56, ("ReadFileEx → A", "ReadFileEx → B"), colour="blue", bold=False)
    c.box(t - 104, 120, 208, 100, ("computes:", "no routine runs"), bold=False)
    c.box(q - 66, 132, 132, 30, ("A",), colour="green")
    c.box(q - 66, 178, 132, 30, ("B",), colour="orange")
    c.text(q - 76, 152, "data", anchor="end", colour="quiet")
    c.text(q - 76, 198, "data", anchor="end", colour="quiet")
    c.box(t - 104, 232, 208, 142, (), colour="blue")
    c.text(t, 254, "SleepEx(…, True)", anchor="middle", code=True, colour="blue")
    c.box(t - 84, 266, 168, 28, ("A runs",), colour="green", bold=False)
    c.box(t - 84, 302, 168, 28, ("B runs",), colour="orange", bold=False)
    c.text(t, 356, "returns 192", anchor="middle", colour="blue")
    c.arrow((q, 280), (t + 86, 280), colour="green")
    c.arrow((q, 316), (t + 86, 316), colour="orange")
    return c
