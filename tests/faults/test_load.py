"""Many connections, much traffic, want of memory, descriptors and disk: all is accounted for, nothing grows."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import time
from typing import TYPE_CHECKING

import pytest

from tests import helpers as h
from tests.faults import helpers as f

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.conftest import Child

    Start = Callable[..., Child]
    Figure = Callable[[str], None]

pytestmark = pytest.mark.timeout(90 * f.MINUTES)

LIMITS = """
    import resource
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
"""

MESSAGES = """
    import random, struct, zlib
    HEADER = struct.Struct("<IQI")
    def message(who, number, size):
        body = bytes([(who + number) % 251]) * size
        return HEADER.pack(who, number, zlib.crc32(body)) + body
    def check(got, who, number):
        expected = who, number, zlib.crc32(got[HEADER.size:])
        assert HEADER.unpack_from(got) == expected, (HEADER.unpack_from(got), expected)
"""


def script(*parts: str) -> str:
    return "\n".join(textwrap.dedent(part) for part in parts)


# ---- Idle


def test_idle_connections_cost_memory_and_no_wake_ups(child: Start, name: str, figure: Figure) -> None:
    count = f.rounds(2000, 10_000)
    server = child(
        script(
            LIMITS,
            """
            import sys, npipe
            listener = npipe.listen(sys.argv[1])
            print("listening", flush=True)
            pipes = [listener.accept(60) for _ in range(int(sys.argv[2]))]
            print("accepted", flush=True)
            for line in sys.stdin:
                for number in map(int, line.split()):
                    pipes[number].send(b"%d " % number + pipes[number].recv(timeout=20))
                print("answered", flush=True)
            """,
        ),
        name,
        str(count),
    )
    assert server.line() == "listening"
    client = child(
        script(
            LIMITS,
            """
            import random, sys, npipe
            count = int(sys.argv[2])
            pipes = [npipe.connect(sys.argv[1], timeout=60) for _ in range(count)]
            print("connected", flush=True)
            for line in sys.stdin:
                chosen = random.sample(range(count), 500)
                for number in chosen:
                    pipes[number].send(b"hello")
                print(*chosen, flush=True)
                assert all(pipes[number].recv(timeout=20) == b"%d hello" % number for number in chosen)
                print("fine", flush=True)
            """,
        ),
        name,
        str(count),
    )
    before = f.resident_kib(server.pid), f.resident_kib(client.pid)
    began = time.monotonic()
    assert server.line(120) == "accepted"
    assert client.line(120) == "connected"
    took = time.monotonic() - began
    memory = [f.resident_kib(made.pid) - old for made, old in zip((server, client), before, strict=True)]
    for made in (server, client):
        quiet(made.pid)
    seconds = f.rounds(3, 30)
    switched = [f.switches(made.pid) for made in (server, client)]
    time.sleep(seconds)
    woken = [f.switches(made.pid) - old for made, old in zip((server, client), switched, strict=True)]
    assert woken == [0, 0]
    client.say("talk")  # the first may be any of them: clients come in their order, and so does accept
    server.say(client.line(60))
    assert server.line(60) == "answered"
    assert client.line(60) == "fine"
    figure(
        f"{count} connections made in {took:.1f} s; {memory[0] / count:.2f} KiB of the server's own memory and"
        f" {memory[1] / count:.2f} of the client's for each; wake-ups of both in {seconds} s: {sum(woken)}"
    )


def quiet(pid: int) -> None:
    """Returns when a process has done nothing for a moment: timers of what has just begun are over."""
    seen = -1

    def still() -> bool:
        nonlocal seen
        before, seen = seen, f.switches(pid)
        time.sleep(0.1)
        return before == seen

    h.until(still, 20)


# ---- Traffic

SERVER = script(
    LIMITS,
    MESSAGES,
    """
    import sys, threading, npipe
    def serve(pipe):
        number = 0
        with pipe:
            for request in pipe:
                check(request, HEADER.unpack_from(request)[0], number)
                number += 1
                pipe.send(request)
    def accept():
        for pipe in npipe_listener:
            threading.Thread(target=serve, args=(pipe,), daemon=True).start()
    threading.stack_size(256 * 1024)
    npipe_listener = npipe.listen(sys.argv[1])
    threading.Thread(target=accept, daemon=True).start()
    print("serving", flush=True)
    sys.stdin.readline()
    """,
)


def test_hundreds_of_active_connections_account_for_every_message(child: Start, name: str, figure: Figure) -> None:
    count, seconds = f.rounds(100, 500), f.rounds(8, 180)
    server = child(SERVER, name)
    assert server.line() == "serving"
    client = child(
        script(
            LIMITS,
            MESSAGES,
            """
            import sys, threading, time, npipe
            name, count, seconds = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
            pipes = [npipe.connect(name, timeout=60) for _ in range(count)]
            print("connected", flush=True)
            end = time.monotonic() + seconds
            sent, received, errors = [0] * count, [0] * count, []
            def work(mine, seed):
                chance = random.Random(seed)
                try:
                    while time.monotonic() < end:
                        batch = chance.sample(mine, min(len(mine), 16))
                        for who in batch:
                            for _ in range(chance.choice([1, 1, 3])):
                                size = chance.choice([0, 50, 50, 2000, 30_000 if chance.random() < 0.2 else 100])
                                pipes[who].send(message(who, sent[who], size), timeout=60)
                                sent[who] += 1
                        for who in batch:
                            while received[who] < sent[who]:
                                check(pipes[who].recv(timeout=60), who, received[who])
                                received[who] += 1
                except BaseException as error:
                    errors.append(repr(error))
            workers = [threading.Thread(target=work, args=(range(first, count, 8), first)) for first in range(8)]
            for worker in workers:
                worker.start()
            for worker in workers:
                worker.join()
            print(sum(sent), sum(received), errors, flush=True)
            sys.stdin.readline()
            """,
        ),
        name,
        str(count),
        str(seconds),
    )
    assert client.line(120) == "connected"
    time.sleep(seconds / 4)  # by then all has been touched
    early = f.holding(server.pid), f.resident_kib(server.pid), f.resident_kib(client.pid)
    sent, received, errors = client.line(seconds * 2 + 60).split(" ", 2)
    assert errors == "[]"
    assert sent == received
    assert f.holding(server.pid) == early[0]
    grown = [f.resident_kib(made.pid) - old for made, old in zip((server, client), early[1:], strict=True)]
    assert max(grown) < 4096 + 8 * count  # buffers of the interpreter's for messages of all sizes, not the engine's
    figure(
        f"{count} connections for {seconds} s: {int(sent):,} messages there and back, all accounted for; memory of its"
        f" own from the first quarter to the end: server {grown[0]:+} KiB of {early[1]}, client {grown[1]:+} KiB of"
        f" {early[2]}; descriptors, links and threads as before"
    )


@pytest.mark.parametrize("how", ["with waits", "without a wait"])
def test_connect_and_close_cycles_leave_nothing(child: Start, name: str, figure: Figure, how: str) -> None:
    count = f.rounds(5000, 100_000)
    server = child(
        script(
            MESSAGES,
            """
            import sys, npipe
            listener = npipe.listen(sys.argv[1])
            print("serving", flush=True)
            for number in range(int(sys.argv[2])):
                with listener.accept(60) as pipe:
                    request = pipe.recv(timeout=60)
                    check(request, 7, number)
                    pipe.send(request)
            print("served", number + 1, flush=True)
            sys.stdin.readline()
            """,
        ),
        name,
        str(count),
    )
    assert server.line() == "serving"
    client = child(
        script(
            MESSAGES,
            """
            import sys, npipe
            name, count, waits = sys.argv[1], int(sys.argv[2]), sys.argv[3] == "with waits"
            for number in range(count):
                if number == count // 10:
                    print("warm", flush=True)
                    sys.stdin.readline()
                if waits and number % 100 == 99:
                    npipe.wait(name, timeout=60)  # without the way that is remembered
                with npipe.connect(name, timeout=60) as pipe:
                    request = message(7, number, number * 31 % 3000)
                    pipe.send(request)
                    assert pipe.recv(timeout=60) == request
            print("done", flush=True)
            sys.stdin.readline()
            """,
        ),
        name,
        str(count),
        how,
    )
    assert client.line(60) == "warm"
    for made in (server, client):
        h.until(lambda pid=made.pid: f.holding(pid).mappings == 0)  # type: ignore[misc]
    before = [(f.holding(made.pid), f.resident_kib(made.pid)) for made in (server, client)]
    began = time.monotonic()
    client.say("go on")
    assert client.line(count / 50) == "done"
    took = time.monotonic() - began
    assert server.line() == f"served {count}"
    for made in (server, client):
        h.until(lambda pid=made.pid: f.holding(pid).mappings == 0)  # type: ignore[misc]
    after = [(f.holding(made.pid), f.resident_kib(made.pid)) for made in (server, client)]
    assert after[1][0] == before[1][0]
    assert after[0][0] == before[0][0]
    grown = [late[1] - early[1] for late, early in zip(after, before, strict=True)]
    assert max(grown) < 1024
    figure(
        f"{count} cycles, the last nine tenths in {took:.1f} s; memory of its own meanwhile: server {grown[0]:+} KiB,"
        f" client {grown[1]:+} KiB; descriptors, links and threads as before"
    )


# ---- Want of memory

SQUEEZE = """
    import os, resource, sys, npipe
    name = sys.argv[1]
    def used():
        return int(open("/proc/self/statm").read().split()[0]) * 4096
    def squeeze(room):
        resource.setrlimit(resource.RLIMIT_AS, (used() + room, resource.RLIM_INFINITY))
    def ease():
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    def code(call):
        try:
            result = call()
        except npipe.PipeError as error:
            return error.winerror
        except MemoryError:
            return "MemoryError"
        if hasattr(result, "close"):
            result.close()
        return result if isinstance(result, bytes) else 0
"""


def say(made: Child, line: str) -> str:
    made.say(line)
    answer: str = made.line(40)
    return answer


def test_want_of_address_space_is_an_error_and_passes(child: Start, name: str) -> None:
    """A segment that cannot be mapped, at the server or at the client; both go on when there is room again."""
    size = 64 << 20
    loop = """
    print("ready", flush=True)
    for line in sys.stdin:
        print(eval(line), flush=True)
    """
    server = child(script(SQUEEZE, f"listener = npipe.listen(name, in_buffer_size={size})", loop), name)
    assert server.line() == "ready"
    client = child(script(SQUEEZE, loop), name)
    assert client.line() == "ready"
    assert say(server, "squeeze(8 << 20)") == "None"
    for _ in range(3):
        assert say(client, "code(lambda: npipe.connect(name, timeout=20))") == "1450"  # and the server is told:
        assert say(server, "code(lambda: listener.accept(0))") == "1450"
        assert say(server, "code(lambda: listener.accept(0))") == "121"
    assert say(server, "ease()") == "None"
    assert say(client, "code(lambda: npipe.connect(name, timeout=20))") == "0"
    assert say(server, "code(lambda: listener.accept(0))") == "121"
    assert say(client, "squeeze(8 << 20)") == "None"
    for _ in range(3):
        assert say(client, "code(lambda: npipe.connect(name, timeout=20))") == "8"
        assert say(server, "code(lambda: listener.accept(0))") == "121"
    assert say(client, "ease()") == "None"
    assert say(client, "globals().update(pipe=npipe.connect(name, timeout=20))") == "None"
    assert say(server, "globals().update(pipe=listener.accept(20))") == "None"
    # A message that there is no room for stays where it is.
    assert say(server, "pipe.send(b'x' * 40_000)") == "None"
    assert say(client, "pipe.send(bytes(40 << 20), timeout=20)") == "None"
    assert say(server, "squeeze(4 << 20)") == "None"
    for _ in range(3):
        assert say(server, "code(lambda: pipe.recv(timeout=5))") in ("8", "MemoryError")
    assert say(client, "len(pipe.recv(timeout=20))") == "40000"  # the other direction has nothing to do with it
    assert say(server, "ease()") == "None"
    assert say(server, "code(lambda: pipe.recv(timeout=20)) == bytes(40 << 20)") == "True"


def test_want_of_address_space_at_any_moment_never_crashes(child: Start, name: str, figure: Figure) -> None:
    """Each of the program's calls, with less and less room: an error of its own kind, and afterwards it works."""
    worker = child(
        script(
            SQUEEZE,
            """
            from collections import Counter
            seen = Counter()
            def everything(patience=20):
                with npipe.listen(name, exclusive=False) as listener, npipe.connect(name, timeout=patience) as client:
                    with listener.accept(5) as server:
                        client.send(b"x" * 50_000, timeout=1)
                        server.recv(timeout=1)
                        server.send(b"y")
                        client.recv(timeout=1)
                npipe.list_pipes()
            everything()
            for room in range(0, 3 << 20, int(sys.argv[2])):
                squeeze(room)
                try:
                    everything(0.2)
                    seen["fine"] += 1
                except npipe.PipeError as error:
                    seen[error.winerror] += 1
                except (MemoryError, OSError) as error:
                    seen[type(error).__name__] += 1
                finally:
                    ease()
                everything()
            print(dict(seen), flush=True)
            """,
        ),
        name,
        str(f.rounds(64 << 10, 4 << 10)),
    )
    found = worker.line(60 * f.MINUTES)
    assert found.startswith("{"), found
    assert worker.wait() == 0
    figure(f"outcomes with 0 to 3 MiB of room left: {found}")


# ---- Want of descriptors


def test_want_of_descriptors_at_any_moment_is_an_error_and_passes(child: Start, name: str, figure: Figure) -> None:
    worker = child(
        script(
            SQUEEZE,
            """
            from collections import Counter
            seen = Counter()
            def everything(patience=20):
                with npipe.listen(name, exclusive=False) as listener, npipe.connect(name, timeout=patience) as client:
                    with listener.accept(5) as server:
                        client.fileno(), server.fileno()
                        client.send(b"x" * 50_000, timeout=1)
                        server.recv(timeout=1)
                npipe.list_pipes()
                npipe.listen(name + "-other").close()
            everything()
            def open_now():
                return len(os.listdir("/proc/self/fd")) - 1
            for turn in range(int(sys.argv[2])):
                before = open_now()
                for room in range(24):
                    highest = max(map(int, os.listdir("/proc/self/fd")))
                    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + room, 4096))
                    try:
                        everything(0.2)
                        seen["fine"] += 1
                    except npipe.PipeError as error:
                        seen[error.winerror] += 1
                    except OSError as error:
                        seen[type(error).__name__] += 1
                    finally:
                        resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))
                    everything()
                assert open_now() == before, [os.readlink(entry) for entry in os.scandir("/proc/self/fd")]
            print(dict(seen), flush=True)
            """,
        ),
        name,
        str(f.rounds(2, 30)),
    )
    found = worker.line(60 * f.MINUTES)
    assert found.startswith("{"), found
    assert worker.wait() == 0
    figure(f"outcomes with 0 to 23 descriptors left: {found}")


# ---- Want of disk

FULL = """
    import os, subprocess, sys
    root = os.environ["NPIPE_ROOT"]
    os.makedirs(root, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=700," + sys.argv[2], "none", root], check=True)
    import npipe
    name = sys.argv[1]

    def fill():
        with open(root + "/.filler", "wb", buffering=0) as filler:
            try:
                while True:
                    filler.write(bytes(4096))
            except OSError:
                pass
    def use_up():
        os.mkdir(root + "/.files")
        try:
            for number in range(10_000):
                open(root + f"/.files/{number}", "x").close()
        except OSError:
            pass
    def free():
        subprocess.run(["rm", "-rf", root + "/.filler", root + "/.files"], check=True)
    def code(call):
        try:
            call().close()
            return 0
        except npipe.PipeError as error:
            return error.winerror
    def exchange(listener):
        with npipe.connect(listener.name, timeout=20) as client, listener.accept(20) as server:
            client.send(bytes(50_000), timeout=20)
            assert server.recv(timeout=20) == bytes(50_000)
"""


@pytest.mark.parametrize(
    ("options", "fill"),
    [
        ("size=64k", "fill()"),
        ("nr_inodes=16", "use_up()"),
        ("size=64k", "os.system(f'mount --bind {root} {root}; mount -o remount,ro,bind {root}')"),
    ],
    ids=["no blocks", "no inodes", "read-only"],
)
def test_a_root_on_a_full_file_system_is_an_error_and_passes(name: str, options: str, fill: str) -> None:
    done = subprocess.run(["unshare", "--mount", "true"], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"unshare --mount is not permitted here: {done.stderr.strip()}")
    work = f"""
    live = npipe.listen(name)
    exchange(live)
    {fill}
    exchange(live)  # what is there goes on
    codes = {{code(lambda: npipe.listen(name + "-new")) for _ in range(20)}}
    assert len(npipe.list_pipes()) == 1
    exchange(live)
    live.close()  # closing needs nothing
    if "remount" in {fill!r}:
        os.system(f"mount -o remount,rw,bind {{root}}")
    free()
    again = npipe.listen(name)
    exchange(again)
    again.close()
    npipe.listen(name + "-new").close()
    print(sorted(codes), os.listdir(root), flush=True)
    """
    done = subprocess.run(
        ["unshare", "--mount", sys.executable, "-X", "faulthandler", "-c", script(FULL, work), name, options],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == ("[5] []\n" if "remount" in fill else "[1450] []\n")
