"""A fuzzer of what smbd says of its clients: fuzz_handshake.py SECONDS [SEED].

It bends the captured requests, at one place or at several, and takes pieces of others in. What comes of it is
HandshakeError or a client. One that was bent at one place tells of nobody else but by the field that was bent. Some of
those that are understood go through Samba's own decoder, where there is one of that level: it has to understand the
same.
"""

from __future__ import annotations

import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from npipe.transports.export.handshake import parse
from tests.export.helpers import CAPTURED, Request
from tests.export.mutations import EXTREMES, checked, fields_of, unexplained, with_length

PACKETS = [captured.packet for captured in CAPTURED] + [
    Request(level=level, groups=(1, 2, 3), device_sids=("S-1-5-21-9",) if level == 8 else ()).packed()
    for level in (5, 7, 8)
]
FIELDS = [fields_of(packet) for packet in PACKETS]
ORIGINALS = [parse(packet) for packet in PACKETS]
DECODED_LEVEL = 7
"""Of Debian 12's ndrdump. Each level needs the ndrdump of its own Samba."""
EACH = 100  # of the understood ones, one goes through Samba's decoder


def bent_at(packet: bytearray, place: int) -> None:
    """Change up to eight bytes there."""
    size = random.choice((1, 1, 2, 4, 4, 8))
    size = min(size, len(packet) - place)
    was = int.from_bytes(packet[place : place + size], "little")
    value = random.choice((*EXTREMES, was + 1, was - 1, was ^ 1 << random.randrange(64), random.getrandbits(64)))
    packet[place : place + size] = (value % (1 << 8 * size)).to_bytes(size, "little")


def bent_anyhow(packet: bytearray) -> bytes:
    """Change several places, and what stands where."""
    for _ in range(random.randint(1, 6)):
        place = random.randrange(4, len(packet))
        way = random.randrange(5)
        size = random.choice((1, 2, 3, 4, 8, 12, 16, 40))
        if way < 2:
            bent_at(packet, place)
        elif way == 2:
            del packet[place : place + size]
        elif way == 3:
            packet[place:place] = packet[place : place + size] if random.random() < 0.5 else bytes(size)
        else:
            other = random.choice(PACKETS)
            begin = random.randrange(len(other))
            packet[place : place + size] = other[begin : begin + size]
        if len(packet) < 70:
            packet += bytes(70 - len(packet))
    return with_length(packet) if random.random() < 0.95 else bytes(packet)


def compared(packet: bytes, folder: Path) -> None:
    """Fail unless Samba's own decoder understands what npipe has understood."""
    who = parse(packet)
    path = folder / "request"
    path.write_bytes(packet)
    command = ["ndrdump", "named_pipe_auth", "named_pipe_auth_req", "struct", str(path)]
    said = subprocess.run(command, capture_output=True, timeout=20, check=False).stdout.decode("utf-8", "replace")
    assert "Success" in said, said
    assert int(re.findall(r" uid +: 0x([0-9a-f]+)", said)[0], 16) == who.uid
    assert int(re.findall(r" gid +: 0x([0-9a-f]+)", said)[0], 16) == who.gid
    assert tuple(int(group, 16) for group in re.findall(r" groups +: 0x([0-9a-f]+)", said)) == who.groups
    sids = [
        re.sub("-0x([0-9a-f]+)", lambda number: f"-{int(number[1], 16)}", sid) for sid in re.findall("S-1-.+", said)
    ]
    assert tuple(sids) == who.sids


def main(seconds: float, seed: int) -> int:
    """Fuzz for so long; 0 if nothing was found."""
    random.seed(seed)
    decoder = shutil.which("ndrdump") is not None
    until = time.monotonic() + seconds
    tried = understood = decoded = 0
    with tempfile.TemporaryDirectory() as folder:
        while time.monotonic() < until:
            number = random.randrange(len(PACKETS))
            packet, one = PACKETS[number], random.random() < 0.5
            bent = bytearray(packet)
            if one:
                bent_at(bent, random.randrange(4, len(bent)))
            sent = bytes(bent) if one else bent_anyhow(bent)
            try:
                who = checked(sent)
                if who is not None and one:
                    found = list(unexplained(packet, FIELDS[number], ORIGINALS[number], sent, who))
                    assert not found, found
                if who is not None and decoder and who.level == DECODED_LEVEL and understood % EACH == 0:
                    compared(sent, Path(folder))
                    decoded += 1
            except BaseException:
                print(f"fuzz_handshake: seed {seed}, after {tried}: {sent.hex()}", file=sys.stderr)
                raise
            tried += 1
            understood += who is not None
    print(f"fuzz_handshake: {tried} requests, {understood} understood, {decoded} of them by Samba too; seed {seed}")
    return 0


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else time.time_ns() % 1_000_000))
