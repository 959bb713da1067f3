"""Overlapped operations of two processes, cancelled at any moment: a message arrives once and whole, or never."""

from __future__ import annotations

import json
import random
import textwrap
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from tests.faults import helpers as f

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.conftest import Child

pytestmark = pytest.mark.timeout(60 * f.MINUTES)

END = """
    import json, random, sys, threading, zlib
    from collections import Counter
    from npipe.win32 import completion, pywintypes, win32event, win32file, win32pipe
    name, role, seed, count, quota = sys.argv[1], sys.argv[2], *map(int, sys.argv[3:])
    if role == "server":
        pipe = win32pipe.CreateNamedPipe(name, 3 | 0x40000000, 4 | 2, 255, quota, quota, 0, None)
        print("on", flush=True)
        overlapped = win32file.OVERLAPPED()
        overlapped.hEvent = win32event.CreateEvent(None, 1, 0, None)
        if win32pipe.ConnectNamedPipe(pipe, overlapped) == 997:
            win32event.WaitForSingleObject(overlapped.hEvent, 20000)
    else:
        pipe = win32file.CreateFile(name, 0xC0000000, 0, None, 3, 0x40000000, None)
        win32pipe.SetNamedPipeHandleState(pipe, 2, None, None)
    sent, withdrawn, got, errors, codes = [], [], [], [], Counter()

    def message(number, seed=seed):
        sizes = [0, 1, 5, 50, 50, 200, 3000, 70_000 if number % 50 == 0 else 10]
        size = random.Random(number * 7 + seed).choice(sizes)
        body = bytes([number % 251]) * size
        return number.to_bytes(4, "little") + zlib.crc32(body).to_bytes(4, "little") + body

    def begun(start, *arguments):
        overlapped = win32file.OVERLAPPED()
        overlapped.hEvent = win32event.CreateEvent(None, 1, 0, None)
        start(pipe, *arguments, overlapped)
        return overlapped

    def cancel(overlapped):
        try:
            completion.CancelIoEx(pipe, overlapped)
        except pywintypes.error as error:
            assert error.winerror == 1168  # it was over

    def outcome(overlapped):
        try:
            return 0, win32file.GetOverlappedResult(pipe, overlapped, True)
        except pywintypes.error as error:
            return error.winerror, 0

    def account(number, overlapped):
        code, _ = outcome(overlapped)
        codes[f"write {code}"] += 1
        assert code in (0, 995), code
        (sent if code == 0 else withdrawn).append(number)

    def write():
        chance, pended, number = random.Random(seed), [], 0
        while number < count or pended:
            while number < count and len(pended) < chance.choice([1, 4, 40]):
                data = message(number)
                pended.append((number, begun(win32file.WriteFile, data), data))
                number += 1
            draw = chance.random()
            if draw < 0.3:
                one = pended.pop(chance.randrange(len(pended)))
                cancel(one[1])
                account(*one[:2])
            elif draw < 0.32:
                cancel(None)  # reads too
                for one in pended:
                    account(*one[:2])
                pended.clear()
            elif win32event.WaitForSingleObject(pended[0][1].hEvent, chance.choice([0, 1, 20])) == 0:
                account(*pended.pop(0)[:2])
        assert outcome(begun(win32file.WriteFile, b"end")) == (0, 3)

    def read():
        chance = random.Random(-seed)
        while True:
            buffer = win32file.AllocateReadBuffer(100_000)
            overlapped = begun(win32file.ReadFile, buffer)
            if chance.random() < 0.3 and win32event.WaitForSingleObject(overlapped.hEvent, 0) != 0:
                cancel(overlapped)
            code, size = outcome(overlapped)
            codes[f"read {code}"] += 1
            if code == 995:
                continue
            assert code == 0, code
            data = bytes(buffer[:size])
            if data == b"end":
                return
            number = int.from_bytes(data[:4], "little")
            assert data == message(number, seed ^ 1), number
            got.append(number)

    def guarded(work):
        try:
            work()
        except BaseException as error:
            errors.append(repr(error))

    threads = [threading.Thread(target=guarded, args=(work,)) for work in (write, read)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(json.dumps([sent, withdrawn, got, errors, codes]), flush=True)
    sys.stdin.readline()
"""


@pytest.mark.parametrize("quota", [0, 10, 2000, 65536])
def test_cancels_at_any_moment(
    child: Callable[..., Child], name: str, quota: int, figure: Callable[[str], None]
) -> None:
    total = Counter[str]()
    for number in range(f.rounds(2, 60)):
        seed = 2 * random.Random(number).randrange(1 << 20)
        server = child(textwrap.dedent(END), name, "server", str(seed), "800", str(quota))
        assert server.line() == "on"
        client = child(textwrap.dedent(END), name, "client", str(seed + 1), "800", str(quota))
        ends: list[Any] = [json.loads(one.line(60)) for one in (server, client)]
        for mine, other in (ends, ends[::-1]):
            sent, withdrawn, _, errors, codes = mine
            got = other[2]
            assert errors == [], (seed, quota)
            assert len(sent) + len(withdrawn) == 800
            # In their order, each once: those that were sent, and none that was withdrawn.
            assert got == sorted(sent), (seed, quota)
            total += Counter(codes)
        for one in (server, client):
            one.say("end")
            assert one.wait() == 0
    figure(f"quota {quota}: {dict(sorted(total.items()))}")
