"""Ctrl-C in every call that can block, and signals whose handlers return."""

from __future__ import annotations

import os
import signal
import textwrap
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import npipe
from tests.helpers import asleep, until, until_held

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.conftest import Child

    Start = Callable[..., Child]

VICTIM = """
    import os, signal, sys, time, npipe
    name = sys.argv[1]
    def begin():
        print("begins", flush=True)
    signal.signal(signal.SIGINT, signal.default_int_handler)
"""


def interrupted(
    child: Start, name: str, script: str, *, before: Callable[[], object] = lambda: None, held: bool = False
) -> Child:
    """A child that blocks in `call()`, gets SIGINT there, and says how long it took to raise KeyboardInterrupt.

    A call that dials sleeps more than once: `held` says that it is to wait for an instance, and `before` returns when
    the call has come as far as it is meant to be interrupted.
    """
    whole = textwrap.dedent(VICTIM) + textwrap.dedent(script)
    whole += textwrap.dedent(
        """
        begin()
        try:
            call()
            print("returned", flush=True)
        except KeyboardInterrupt:
            print("interrupted", flush=True)
        except BaseException as error:
            print(repr(error), flush=True)
        for line in sys.stdin:
            try:
                print(eval(line), flush=True)
            except BaseException as error:
                print(repr(error), flush=True)
        """
    )
    victim = child(whole, name)
    assert victim.line() == "begins"
    before()
    if held:
        until_held(name, victim.pid)
    until(lambda: asleep(victim.pid))
    began = time.monotonic()
    victim.process.send_signal(signal.SIGINT)
    assert victim.line() == "interrupted"
    assert time.monotonic() - began < 5
    return victim


def ask(victim: Child, expression: str) -> str:
    victim.say(expression)
    answer: str = victim.line()
    return answer


def test_ctrl_c_ends_accept_and_no_client_is_lost(child: Start, name: str) -> None:
    victim = interrupted(child, name, "l = npipe.listen(name); call = l.accept")
    with npipe.connect(name) as pipe:  # the name has not gone
        pipe.send(b"after")
        assert ask(victim, "l.accept().recv()") == "b'after'"


def test_accept_at_the_limit(child: Start, name: str) -> None:
    victim = interrupted(
        child,
        name,
        "l = npipe.listen(name, max_instances=1); c = npipe.connect(name); s = l.accept(); call = l.accept",
    )
    assert ask(victim, "s.close()") == "None"
    with npipe.connect(name) as pipe:
        pipe.send(b"after")
        assert ask(victim, "l.accept().recv()") == "b'after'"


def test_connect_while_all_instances_are_busy(child: Start, name: str) -> None:
    with npipe.listen(name, max_instances=1) as listener:
        first = npipe.connect(name)
        server = listener.accept(5)
        victim = interrupted(child, name, "call = lambda: npipe.connect(name, timeout=None)", held=True)
        server.close()
        with npipe.connect(name, timeout=5) as second, listener.accept(5) as again:  # not wasted on the victim
            second.send(b"x")
            assert again.recv(timeout=5) == b"x"
        assert ask(victim, "npipe.connect(name).name[:9]") == r"\\.\pipe\\"[:9]
        first.close()


def test_ctrl_c_ends_the_wait_for_an_instance(child: Start, name: str) -> None:
    with npipe.listen(name, max_instances=1) as listener:
        first = npipe.connect(name)
        server = listener.accept(5)
        victim = interrupted(child, name, "call = lambda: npipe.wait(name)", held=True)
        server.close()
        assert ask(victim, "npipe.wait(name)") == "None"
        first.close()


@pytest.mark.parametrize("call", ["pipe.recv()", "pipe.recv_into(bytearray(100))", "next(iter(pipe))"])
def test_ctrl_c_ends_recv_and_no_message_is_lost(child: Start, name: str, call: str) -> None:
    with npipe.listen(name) as listener:
        victim = interrupted(child, name, f"pipe = npipe.connect(name); call = lambda: {call}")
        with listener.accept(5) as pipe:
            pipe.send(b"after")
            assert ask(victim, "pipe.recv()") == "b'after'"


@pytest.mark.parametrize("call", ["pipe.recv()", "pipe.recv_into(bytearray(20 << 20))"])
def test_recv_in_the_middle_of_a_large_message(child: Start, name: str, call: str) -> None:
    size = 20 << 20
    receiver = child(
        textwrap.dedent(VICTIM)
        + textwrap.dedent(
            f"""
            import random
            listener = npipe.listen(name)
            print("listening", flush=True)
            pipe = listener.accept()
            print("accepted", flush=True)
            sys.stdin.readline()
            try:
                {call}
                print("returned", flush=True)
            except KeyboardInterrupt:
                print("interrupted", flush=True)
            sys.stdin.readline()
            print(pipe.recv() == random.Random(1).randbytes({size}), flush=True)
            print(pipe.recv(), flush=True)
            """
        ),
        name,
    )
    assert receiver.line() == "listening"
    sender = child(
        f"""
        import random, sys, npipe
        pipe = npipe.connect(sys.argv[1])
        data = random.Random(1).randbytes({size})
        print("writes", flush=True)
        pipe.send(data)
        pipe.send(b"next")
        print("sent", flush=True)
        sys.stdin.readline()
        """,
        name,
    )
    assert receiver.line() == "accepted"
    assert sender.line() == "writes"
    until(lambda: asleep(sender.pid))
    os.kill(sender.pid, signal.SIGSTOP)
    until(lambda: Path(f"/proc/{sender.pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "T")
    receiver.say("receive")
    until(lambda: asleep(receiver.pid))
    until(lambda: _runs_no_more(receiver.pid))
    began = time.monotonic()
    os.kill(receiver.pid, signal.SIGINT)
    assert receiver.line() == "interrupted"
    assert time.monotonic() - began < 5
    os.kill(sender.pid, signal.SIGCONT)
    receiver.say("again")
    assert receiver.line() == "True"
    assert receiver.line() == "b'next'"
    assert sender.line() == "sent"


def _runs_no_more(pid: int) -> bool:
    """Whether it has used no CPU for a moment: it has taken what was there, and sleeps."""
    used = Path(f"/proc/{pid}/schedstat").read_text()
    threading.Event().wait(0.05)
    return used == Path(f"/proc/{pid}/schedstat").read_text() and asleep(pid)


def test_send_over_quota_is_withdrawn(child: Start, name: str) -> None:
    with npipe.listen(name, in_buffer_size=10) as listener:
        victim = interrupted(
            child, name, "pipe = npipe.connect(name); pipe.send(b'first'); call = lambda: pipe.send(bytes(100_000))"
        )
        with listener.accept(5) as pipe:
            assert pipe.peek().available == 5
            assert pipe.recv(timeout=5) == b"first"
            with pytest.raises(npipe.PipeTimeoutError):
                pipe.recv(timeout=0)
            assert ask(victim, "pipe.send(b'after')") == "None"
            assert pipe.recv(timeout=5) == b"after"


def test_write_over_quota_is_withdrawn(child: Start, name: str) -> None:
    with npipe.listen(name, mode="byte", in_buffer_size=10) as listener:
        victim = interrupted(
            child, name, "pipe = npipe.connect(name, mode='byte'); call = lambda: pipe.write(bytes(100_000))"
        )
        with listener.accept(5) as pipe:
            assert pipe.peek().available == 0
            assert ask(victim, "pipe.write(b'after')") == "5"
            assert pipe.read(10, timeout=5) == b"after"


@pytest.mark.parametrize("call", ["pipe.read(10)", "pipe.read()", "pipe.readinto(bytearray(9))", "file.read(3)"])
def test_ctrl_c_ends_read_and_no_byte_is_lost(child: Start, name: str, call: str) -> None:
    with npipe.listen(name, mode="byte") as listener:
        victim = interrupted(
            child,
            name,
            f"pipe = npipe.connect(name, mode='byte'); file = pipe.makefile('rb'); call = lambda: {call}",
        )
        with listener.accept(5) as pipe:
            pipe.write(b"after")
            assert ask(victim, "pipe.read(5)") == "b'after'"


def test_ctrl_c_ends_transact_and_the_request_stays_sent(child: Start, name: str) -> None:
    with npipe.listen(name) as listener:
        victim = interrupted(child, name, "pipe = npipe.connect(name); call = lambda: pipe.transact(b'request')")
        with listener.accept(5) as pipe:
            assert pipe.recv(timeout=5) == b"request"  # it stays sent
            assert "PipeStateError" in ask(victim, "pipe.transact(b'another')")  # it is owed the answer
            pipe.send(b"answer")
            assert ask(victim, "pipe.recv()") == "b'answer'"


def test_ctrl_c_ends_call_and_closes_its_connection(child: Start, name: str) -> None:
    with npipe.listen(name) as listener:
        served = []

        def until_its_request_is_here() -> None:
            served.append(listener.accept(20))
            until(lambda: served[0].peek().available == len(b"request"), 20)

        victim = interrupted(
            child, name, "call = lambda: npipe.call(name, b'request')", before=until_its_request_is_here
        )
        with served[0] as pipe:
            assert pipe.recv(timeout=5) == b"request"
            with pytest.raises(npipe.PipeClosedError):
                pipe.recv(timeout=5)
        assert ask(victim, "len(open('/proc/self/maps').read().split('memfd:npipe-link')) - 1") == "0"


def test_ctrl_c_ends_flush_and_nothing_is_lost(child: Start, name: str) -> None:
    with npipe.listen(name) as listener:
        victim = interrupted(child, name, "pipe = npipe.connect(name); pipe.send(b'unread'); call = pipe.flush")
        with listener.accept(5) as pipe:
            assert pipe.recv(timeout=5) == b"unread"
            assert ask(victim, "pipe.flush()") == "None"


def test_ctrl_c_ends_the_wait_for_a_server_that_goes_on(child: Start, name: str) -> None:
    victim = interrupted(child, name, "server = npipe.serve(name, bytes.upper); call = server.wait")
    assert npipe.call(name, b"still there", timeout=5) == b"STILL THERE"
    assert ask(victim, "server.close()") == "None"
    with pytest.raises(npipe.PipeNotFoundError):
        npipe.connect(name)


def test_ctrl_c_ends_the_iteration_of_a_listener(child: Start, name: str) -> None:
    victim = interrupted(child, name, "l = npipe.listen(name); call = lambda: next(iter(l))")
    npipe.connect(name).close()
    assert ask(victim, "l.close()") == "None"


# ---- The handler raises, and what the call waits for has come meanwhile


@pytest.mark.parametrize(
    ("call", "event", "proof"),
    [
        ("client.recv()", "server.send(b'x')", "client.recv(timeout=5) == b'x'"),
        ("client.recv_into(bytearray(9))", "server.send(b'x')", "client.recv(timeout=5) == b'x'"),
        ("client.recv()", "server.send(bytes(50_000))", "client.recv(timeout=5) == bytes(50_000)"),
        ("client.transact(b'q')", "server.send(b'x')", "client.recv(timeout=5) == b'x'"),
        ("listener.accept()", "npipe.connect(name).send(b'x')", "listener.accept(5).recv(timeout=5) == b'x'"),
        ("full.send(b'12345')", "fulls.recv()", "fulls.recv(timeout=5) in (b'12345', b'later')"),
        ("full.flush()", "fulls.recv()", "full.flush(timeout=5) is None"),
        ("stream.read(5)", "streams.write(b'abc')", "stream.read(5, timeout=5) == b'abc'"),
        ("npipe.connect(busy.name)", "busys.close()", "npipe.connect(busy.name, timeout=5).closed is False"),
        ("npipe.wait(busy.name)", "busys.close()", "npipe.wait(busy.name, timeout=5) is None"),
    ],
)
def test_interrupt_at_the_moment_when_the_call_succeeds(
    child: Start, name: str, call: str, event: str, proof: str
) -> None:
    """Ctrl-C and the event come together: the exception comes out clean, and what had come is not lost."""
    worker = child(
        textwrap.dedent(
            f"""
            import signal, sys, threading, npipe
            name = sys.argv[1]
            listener = npipe.listen(name)
            client = npipe.connect(name); server = listener.accept()
            fulll = npipe.listen(name + "-full", in_buffer_size=5)
            full = npipe.connect(name + "-full"); fulls = fulll.accept()
            full.send(b"first")
            streaml = npipe.listen(name + "-byte", mode="byte")
            stream = npipe.connect(name + "-byte", mode="byte"); streams = streaml.accept()
            busy = npipe.listen(name + "-busy", max_instances=1)
            busyc = npipe.connect(name + "-busy"); busys = busy.accept()
            kept = []

            def handler(number, frame):
                kept.append({event})
                threading.Event().wait(0.1)  # until it has arrived
                raise KeyboardInterrupt

            signal.signal(signal.SIGALRM, handler)
            try:
                signal.setitimer(signal.ITIMER_REAL, 0.1)
                {call}
                print("returned", flush=True)
            except BaseException as error:
                print(type(error).__name__, flush=True)
            signal.setitimer(signal.ITIMER_REAL, 0)
            if {call!r}.startswith("full.send"):  # it was sent or withdrawn: either way the next message follows
                threading.Thread(target=lambda: full.send(b"later", timeout=5), daemon=True).start()
            if {call!r}.startswith("npipe.connect"):  # an open that was granted counts as a client that has left
                threading.Thread(target=lambda: kept.append(busy.accept(5)), daemon=True).start()
            print({proof}, flush=True)
            """
        ),
        name,
    )
    assert worker.line() == "KeyboardInterrupt"
    assert worker.line() == "True"
    assert worker.wait() == 0


# ---- Handlers that return

PATIENT = """
    import signal, sys, threading, npipe
    name = sys.argv[1]
    count = 0
    def handler(number, frame):
        global count
        count += 1
        if count == 20:
            signal.setitimer(signal.ITIMER_REAL, 0)
            threading.Thread(target=later).start()
    signal.signal(signal.SIGALRM, handler)
    listener = npipe.listen(name, max_instances=1, in_buffer_size=10)
    def later():
        exec(sys.argv[3])
    if sys.argv[2] != "listener.accept()":
        client = npipe.connect(name)
        server = listener.accept()
    if "flush" in sys.argv[2]:
        client.send(b"x")
    signal.setitimer(signal.ITIMER_REAL, 0.005, 0.005)
    result = eval(sys.argv[2])
    print(count, type(result).__name__, flush=True)
"""


@pytest.mark.parametrize(
    ("call", "event", "result"),
    [
        ("listener.accept()", "npipe.connect(name)", "MessagePipe"),
        ("client.recv()", "server.send(b'x')", "bytes"),
        ("client.recv_into(bytearray(9))", "server.send(b'x')", "int"),
        ("client.send(bytes(100_000))", "server.recv()", "NoneType"),
        ("client.transact(b'q')", "server.send(server.recv())", "bytes"),
        ("client.flush()", "server.recv()", "NoneType"),
        ("npipe.connect(name, timeout=None)", "server.close()", "MessagePipe"),
        ("npipe.connect(name, timeout=20)", "server.close()", "MessagePipe"),
        ("npipe.wait(name)", "server.close()", "NoneType"),
    ],
)
def test_signal_whose_handler_returns_does_not_end_the_call(
    child: Start, name: str, call: str, event: str, result: str
) -> None:
    worker = child(PATIENT, name, call, event)
    assert worker.line() == f"20 {result}"
    assert worker.wait() == 0


def test_time_out_is_kept_although_signals_come(child: Start, name: str) -> None:
    worker = child(
        """
        import signal, sys, time, npipe
        signal.signal(signal.SIGALRM, lambda *_: None)
        listener = npipe.listen(sys.argv[1], max_instances=1)
        client = npipe.connect(sys.argv[1]); server = listener.accept()
        signal.setitimer(signal.ITIMER_REAL, 0.01, 0.01)
        for call in (
            lambda: client.recv(timeout=0.3), lambda: listener.accept(0.3),
            lambda: npipe.wait(sys.argv[1], timeout=0.3),
            lambda: npipe.connect(sys.argv[1], timeout=0.3), lambda: client.send(bytes(1 << 20), timeout=0.3),
        ):
            began = time.monotonic()
            try:
                call()
                print("returned", flush=True)
            except npipe.PipeTimeoutError:
                print(0.29 < time.monotonic() - began < 5, flush=True)
        """,
        name,
    )
    for _ in range(5):
        assert worker.line() == "True"


def test_signals_during_transfers_lose_nothing(child: Start, name: str) -> None:
    worker = child(
        """
        import random, signal, sys, threading, npipe
        signal.signal(signal.SIGALRM, lambda *_: None)
        listener = npipe.listen(sys.argv[1])
        client = npipe.connect(sys.argv[1]); server = listener.accept()
        sizes = [random.Random(3).randrange(400_000) for _ in range(300)]
        def echo():
            for message in server:
                server.send(message)
        threading.Thread(target=echo, daemon=True).start()
        signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
        for number, size in enumerate(sizes):
            data = bytes([number % 251]) * size
            client.send(data)
            assert client.recv() == data
        signal.setitimer(signal.ITIMER_REAL, 0)
        print("fine", flush=True)
        """,
        name,
    )
    assert worker.line(30) == "fine"


@pytest.mark.parametrize("call", ["recv", "recv_into"])
def test_interrupts_during_transfers_lose_nothing(child: Start, name: str, call: str) -> None:
    """A handler that raises, at any moment: each message arrives once and whole.

    The interpreter may raise after the call has come back. What `recv` had is nobody's then, and each exception can
    hide one message; `recv_into` has left it in the buffer, so there none may be missing that was not seen in full.
    """
    worker = child(
        """
        import signal, sys, threading, npipe
        class Stop(Exception): pass
        armed = False
        def handler(*_):
            # The interpreter may hear a signal late, when the timer has been stopped: then it is nothing.
            global armed
            if armed:
                armed = False
                raise Stop
        def whole(number): return number.to_bytes(4, "little") * (1 + number * 131 % 50_000)
        listener = npipe.listen(sys.argv[1])
        client = npipe.connect(sys.argv[1]); server = listener.accept()
        def produce():
            for number in range(401):
                server.send(whole(number))
        # Threads inherit it: a signal that one of them takes, the main one hears late, when its timer has stopped.
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGALRM])
        threading.Thread(target=produce, daemon=True).start()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGALRM])
        signal.signal(signal.SIGALRM, handler)
        buffer = bytearray(200_000)
        may_come = {0}  # numbers of the next message
        number = 0
        while number < 400:
            message = size = None
            buffer[:4] = b"none"
            try:
                if 400 not in may_come:
                    armed = True
                    signal.setitimer(signal.ITIMER_REAL, 0.0003)
                if sys.argv[2] == "recv":
                    message = client.recv(timeout=20)
                else:
                    size = client.recv_into(buffer, timeout=20)
                signal.setitimer(signal.ITIMER_REAL, 0)
                armed = False
            except Stop:
                pass
            if size is not None:
                message = bytes(buffer[:size])
            if message is None:
                if sys.argv[2] == "recv":
                    may_come.add(max(may_come) + 1)
                else:
                    may_come |= {seen + 1 for seen in may_come if buffer.startswith(whole(seen))}
                continue
            number = int.from_bytes(message[:4], "little")
            assert number in may_come, (number, may_come)
            assert message == whole(number), number
            may_come = {number + 1}
        print("fine", flush=True)
        """,
        name,
        call,
    )
    assert worker.line(60) == "fine"


def test_ctrl_c_ends_the_wait_for_a_connection_of_a_pool_and_none_is_lost(child: Start, name: str) -> None:
    with npipe.serve(name, bytes.upper):
        victim = child(
            """
            import os, signal, sys, threading, npipe
            signal.signal(signal.SIGINT, signal.default_int_handler)
            pool = npipe.Pool(sys.argv[1], size=1)

            def interrupt():
                while not pool.stats.waiting:
                    threading.Event().wait(0.001)
                os.kill(os.getpid(), signal.SIGINT)

            for use in (lambda: pool.call(b"x", timeout=None), lambda: pool.connection(timeout=None).__enter__()):
                with pool.connection() as pipe:
                    threading.Thread(target=interrupt).start()
                    try:
                        use()
                    except KeyboardInterrupt:
                        print("interrupted", pool.stats.waiting, pipe.transact(b"mine"), flush=True)
                print(pool.stats.in_use, pool.call(b"free", timeout=5), flush=True)
            """,
            name,
        )
        for _ in range(2):
            assert victim.line() == "interrupted 0 b'MINE'"
            assert victim.line() == "0 b'FREE'"


def test_ctrl_c_ends_a_call_of_a_pool_and_its_answer_reaches_nobody(child: Start, name: str) -> None:
    with npipe.listen(name) as listener:
        received: list[npipe.MessagePipe] = []

        def until_sent() -> None:
            received.append(listener.accept(5))
            assert received[0].recv(timeout=5) == b"first"

        victim = interrupted(
            child,
            name,
            "pool = npipe.Pool(name, size=1); call = lambda: pool.call(b'first', timeout=None)",
            before=until_sent,
        )
        with received[0]:
            victim.say("pool.call(b'second', timeout=5)")
            with listener.accept(5) as fresh:
                assert fresh.recv(timeout=5) == b"second"
                fresh.send(b"answer to second")
                assert victim.line() == "b'answer to second'"
        assert ask(victim, "pool.stats.in_use, pool.stats.dropped") == "(0, 1)"


def test_what_a_handler_sends_while_its_thread_receives_is_counted_in_full(child: Start, name: str) -> None:
    worker = child(
        """
        import signal, time
        from npipe.pooling import Loan
        loan = Loan(object(), "name")
        sent = 0
        def handler(*_):
            global sent
            sent += 1
            loan.has_sent()
        signal.signal(signal.SIGALRM, handler)
        received = 0
        rounds = 2_000
        for _ in range(1_000_000):
            loan.has_sent()
        signal.setitimer(signal.ITIMER_REAL, 5e-5, 5e-5)
        end = time.monotonic() + 20
        while sent < rounds and received < 1_000_000 and time.monotonic() < end:
            loan.has_received()
            received += 1
        signal.setitimer(signal.ITIMER_REAL, 0)
        for _ in range(1_000_000 + sent - received - 1):
            loan.has_received()
        one_is_owed = not loan.take_back(both_ways=True)
        loan.has_received()
        print(sent > 100, one_is_owed, loan.take_back(both_ways=True), flush=True)
        """,
        name,
    )
    assert worker.line(60) == "True True True"


@pytest.mark.parametrize("seed", range(3))
def test_interrupts_at_every_moment_lose_no_connection_of_a_pool(child: Start, name: str, seed: int) -> None:
    with npipe.serve(name, bytes.upper):
        victim = child(
            """
            import gc, random, signal, sys, threading, time, npipe
            name, choices = sys.argv[1], random.Random(sys.argv[2])
            pool = npipe.Pool(name, size=2)
            over = threading.Event()

            class Stop(BaseException):
                pass

            armed = False

            def stop(*_):
                # The interpreter may hear a signal late, when the timer has been stopped: then it is nothing.
                global armed
                if armed:
                    armed = False
                    raise Stop

            def others(who):
                count = 0
                while not over.is_set():
                    text = b"%d of %d" % (count, who)
                    assert pool.call(text, timeout=20) == text.upper()
                    count += 1
                return count

            def use(text):
                if choices.random() < 0.5:
                    return pool.call(text, timeout=20)
                with pool.connection(timeout=20) as pipe:
                    return pipe.transact(text, timeout=20)

            signal.signal(signal.SIGALRM, stop)
            threads = [threading.Thread(target=others, args=(who,)) for who in range(2)]
            # Threads inherit it: a signal that one of them takes, the main one hears late, when its timer has stopped.
            signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGALRM])
            for thread in threads:
                thread.start()
            signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGALRM])
            stopped = wrong = 0
            end = time.monotonic() + 2.5
            while time.monotonic() < end:
                text = b"%d" % stopped
                try:
                    try:
                        armed = True
                        signal.setitimer(signal.ITIMER_REAL, choices.uniform(1e-6, 3e-4))
                        wrong += use(text) != text.upper()
                    finally:
                        signal.setitimer(signal.ITIMER_REAL, 0)
                        armed = False
                except Stop:
                    stopped += 1
            over.set()
            for thread in threads:
                thread.join(20)
            gc.collect()
            print(stopped > 100, wrong, pool.stats.in_use, pool.stats.waiting, flush=True)
            with pool.connection(timeout=5) as one, pool.connection(timeout=5) as other:
                print(one.transact(b"one"), other.transact(b"other"), flush=True)
            """,
            name,
            str(seed),
        )
        assert victim.line(30) == "True 0 0 0"
        assert victim.line() == "b'ONE' b'OTHER'"
