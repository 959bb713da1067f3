"""What smbd says of its clients: captured requests, composed ones of each level, and what is no request at all."""

from __future__ import annotations

import contextlib
import re
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from npipe.transports.export import handshake
from npipe.transports.export.handshake import HandshakeError, compose_reply, parse
from tests.export.helpers import ALICE, CAPTURED, KEY, Captured, Request

if TYPE_CHECKING:
    from pathlib import Path

ADDRESSES = ("127.0.0.1", "127.0.0.77", "127.100.100.100", "::1", "fe80::1234:5678:9abc:def0")


@pytest.mark.parametrize("captured", CAPTURED, ids=lambda captured: captured.name)
def test_a_captured_request_tells_who_its_client_is(captured: Captured) -> None:
    who = parse(captured.packet)
    assert who.level == int(captured.name[5])
    address = re.search(r"src-([\d.]+)$", captured.name)
    assert who.address == (address[1] if address else "127.0.0.1")
    assert who.encrypted == ("encrypted" in captured.name)
    assert who.probe == ("probe" in captured.name)
    if "guest" in captured.name:
        assert (who.known, who.anonymous, who.account) == (False, False, "nobody")
    elif "anonymous" in captured.name:
        assert (who.known, who.anonymous, who.account) == (False, True, "ANONYMOUS LOGON")
    else:
        assert (who.known, who.anonymous) == (True, False)
        user = "news" if "bob" in captured.name else "games" if who.level == 7 else "alice"
        assert who.account == who.unix_user == user
        assert who.uid in (5, 9, 1000)
        assert who.sids[0].startswith("S-1-5-21-")
        assert f"S-1-22-1-{who.uid}" in who.sids
        assert f"S-1-22-2-{who.gid}" in who.sids


def _dumped(folder: Path, packet: bytes) -> str | None:
    """What Samba's own decoder says; None: it does not know the level, or it is not here."""
    if shutil.which("ndrdump") is None:
        return None
    path = folder / "request"
    path.write_bytes(packet)
    command = ["ndrdump", "named_pipe_auth", "named_pipe_auth_req", "struct", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout if "Success" in done.stdout else None


def _compared(folder: Path, packet: bytes) -> None:
    who = parse(packet)
    dump = _dumped(folder, packet)
    if dump is None:
        pytest.skip("ndrdump of a Samba that has this level (Debian's samba-testsuite) is not installed")
    assert f"remote_client_addr       : '{who.address}'" in dump
    assert tuple(re.findall(r"sids +: (S-1\S+)", dump)) == who.sids
    assert int(re.findall(r" uid +: 0x([0-9a-f]+)", dump)[0], 16) == who.uid
    assert int(re.findall(r" gid +: 0x([0-9a-f]+)", dump)[0], 16) == who.gid
    assert tuple(int(group, 16) for group in re.findall(r" groups +: 0x([0-9a-f]+)", dump)) == who.groups
    for field, value in (("account_name", who.account), ("domain_name", who.domain), ("unix_name", who.unix_user)):
        assert re.search(rf" {field} +: '{re.escape(value)}'", dump)


@pytest.mark.parametrize("captured", CAPTURED, ids=lambda captured: captured.name)
def test_samba_s_own_decoder_says_the_same(captured: Captured, tmp_path: Path) -> None:
    _compared(tmp_path, captured.packet)


@pytest.mark.parametrize("address", ADDRESSES)
@pytest.mark.parametrize("level", [5, 7, 8])
def test_samba_s_own_decoder_understands_what_the_tests_compose(tmp_path: Path, level: int, address: str) -> None:
    _compared(tmp_path, Request(level=level, address=address, host="host" + "x" * (len(address) % 3)).packed())


@pytest.mark.parametrize("host", ["a", "ab", "abc", "abcd", "abcde", "abcdef", "abcdefg", "abcdefgh"])
@pytest.mark.parametrize("address", ADDRESSES)
@pytest.mark.parametrize("level", [5, 7, 8])
def test_addresses_and_names_of_every_length_are_understood(level: int, address: str, host: str) -> None:
    request = Request(level=level, address=address, host=host, groups=(1, 2, 3), device_sids=("S-1-5-21-9",) * 2)
    who = parse(request.packed())
    assert (who.level, who.address, who.port, who.account, who.domain) == (level, address, 4711, "alice", "HERE")
    assert (who.uid, who.gid, who.groups, who.sids, who.known) == (1000, 1000, (1, 2, 3), request.sids, True)


@pytest.mark.parametrize("level", [5, 7, 8])
def test_only_who_has_proved_it_is_known(level: int) -> None:
    assert parse(Request(level=level).packed()).known
    assert not parse(Request(level=level, authenticated=False).packed()).known
    assert not parse(Request(level=level, sids=("S-1-5-21-1-2-3-1000", "S-1-1-0")).packed()).known
    assert not parse(Request(level=level, sids=("S-1-5-7", "S-1-5-11")).packed()).known


def test_the_name_that_a_client_claims_is_nowhere() -> None:
    assert "emperor" not in repr(parse(Request(claimed="emperor").packed()))


def test_the_session_s_key_is_nowhere() -> None:
    packet = Request().packed()
    assert KEY in packet
    for shown in (repr(parse(packet)), str(vars(parse(packet)))):
        assert KEY.hex() not in shown
        assert repr(KEY)[2:-1] not in shown
    for end in range(0, len(packet), 3):
        with pytest.raises(HandshakeError) as raised:
            parse((end - 4 & 0xFFFFFFFF).to_bytes(4, "big") + packet[4:end])
        assert repr(KEY)[2:-1] not in repr(raised.value)


@pytest.mark.parametrize("captured", CAPTURED, ids=lambda captured: captured.name)
def test_a_request_that_is_cut_off_is_refused(captured: Captured) -> None:
    packet = captured.packet
    for end in range(len(packet)):
        with pytest.raises(HandshakeError):
            parse(packet[:end])
        with pytest.raises(HandshakeError):
            parse((max(0, end - 4)).to_bytes(4, "big") + packet[4:end])


@pytest.mark.parametrize("captured", CAPTURED, ids=lambda captured: captured.name)
def test_what_is_left_over_is_refused(captured: Captured) -> None:
    packet = captured.packet
    for more in (b"\0", b"\0" * 8, b"x" * 100):
        with pytest.raises(HandshakeError):
            parse(packet + more)
        with pytest.raises(HandshakeError):
            parse((len(packet) + len(more) - 4).to_bytes(4, "big") + packet[4:] + more)


@pytest.mark.parametrize("level", [0, 1, 4, 6, 9, 0xFFFFFFFF])
def test_another_level_is_refused(level: int) -> None:
    packet = bytearray(ALICE)
    packet[8:16] = level.to_bytes(4, "little") * 2
    with pytest.raises(HandshakeError):
        parse(packet)


@pytest.mark.parametrize("offset", range(0, len(ALICE) - 4, 4))
def test_a_number_that_is_bent_is_refused_or_understood(offset: int) -> None:
    for value in (0, 1, 0x7F, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF):
        packet = bytearray(ALICE)
        packet[offset : offset + 4] = value.to_bytes(4, "little")
        try:
            who = parse(packet)
        except HandshakeError:
            continue
        assert len(who.sids) <= len(packet) // 8
        assert len(who.groups) <= len(packet) // 8


@settings(max_examples=500, deadline=None)
@given(st.binary(max_size=1000))
def test_what_is_no_request_is_refused(data: bytes) -> None:
    for packet in (data, (len(data) + 12).to_bytes(4, "big") + b"NPAM" + (b"\x08\0\0\0" * 2) + data):
        with pytest.raises(HandshakeError):
            parse(packet)


@settings(max_examples=1000, deadline=None)
@given(
    st.sampled_from([captured.packet for captured in CAPTURED]),
    st.lists(st.tuples(st.integers(0, 1 << 20), st.integers(0, 255)), min_size=1, max_size=8),
    st.integers(0, 64),
)
@pytest.mark.slow
def test_a_request_that_is_bent_raises_one_error_or_none(packet: bytes, bends: list[tuple[int, int]], cut: int) -> None:
    bent = bytearray(packet[: len(packet) - cut])
    for place, value in bends:
        bent[4 + place % (len(bent) - 4)] = value
    bent[:4] = (len(bent) - 4).to_bytes(4, "big")
    with contextlib.suppress(HandshakeError):
        parse(bent)


def test_claims_are_refused() -> None:
    packet = bytearray(ALICE)
    packet[404:408] = (1).to_bytes(4, "little")
    with pytest.raises(HandshakeError, match="local claims"):
        parse(packet)


@pytest.mark.parametrize("uid", [0xFFFFFFFF, 1 << 32, (1 << 64) - 1])
def test_a_user_that_no_system_has_is_refused(uid: int) -> None:
    for packet in (Request(uid=uid).packed(), Request(gid=uid).packed(), Request(groups=(1, uid)).packed()):
        with pytest.raises(HandshakeError):
            parse(packet)


@pytest.mark.parametrize("level", [5, 7, 8])
@pytest.mark.parametrize("message_type", [True, False])
def test_the_reply_is_as_samba_expects_it(level: int, message_type: bool) -> None:
    reply = compose_reply(level, message_type=message_type)
    assert len(reply) == 36
    assert reply[:8] == b"\0\0\0\x20NPAM"
    assert reply[8:16] == level.to_bytes(4, "little") * 2
    assert reply[16:18] == (b"\2\0" if message_type else b"\1\0")
    assert reply[32:] == bytes(4)


def test_a_length_beyond_reason_is_refused_before_it_is_waited_for() -> None:
    for length in (0, 59, handshake.MOST_REQUEST, 0xFFFFFFFF):
        with pytest.raises(HandshakeError):
            handshake.length_of(length.to_bytes(4, "big"))


@pytest.mark.skipif(sys.platform == "win32", reason="the engine's")
def test_nothing_of_the_parser_needs_the_engine() -> None:
    code = "import sys; sys.modules['npipe.binding'] = None; import importlib.util as u; "
    code += f"s = u.spec_from_file_location('h', {handshake.__file__!r}); m = u.module_from_spec(s); "
    code += "sys.modules['h'] = m; s.loader.exec_module(m)"
    subprocess.run([sys.executable, "-c", code], check=True)
