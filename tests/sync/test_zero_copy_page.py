"""The samples of docs/zero-copy.md, as they stand there."""

from __future__ import annotations

import re
from typing import Any

import pytest

import npipe
from tests.helpers import CHECKOUT, DEADLINE


def test_the_samples_of_the_page_send_and_receive(name: str) -> None:
    numpy = pytest.importorskip("numpy", reason="the page's samples are about numpy's arrays")
    said: dict[str, Any] = {}
    page = (CHECKOUT / "docs" / "zero-copy.md").read_text("utf-8")
    for sample in re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL):
        exec(sample, said)
    with npipe.listen(name, in_buffer_size=8 << 20) as listener, npipe.connect(name, timeout=DEADLINE) as client:
        with listener.accept(timeout=DEADLINE) as server:
            said["send"](client, b"\x07 and more")
            assert said["first_byte"](server) == 7
            frame = numpy.arange(1080 * 1920 * 3, dtype=numpy.uint8).reshape(1080, 1920, 3)
            said["send_frame"](client, frame)
            assert said["brightness"](server) == frame.mean()
            said["send_frame"](client, frame)
            with server.recv_view(timeout=DEADLINE) as view:
                assert bytes(view) == frame.tobytes()
            said["send_what_it_fills"](client, lambda view: fill(view, b"a part"))
            assert server.recv(timeout=DEADLINE) == b"a part"


def fill(view: memoryview, data: bytes) -> int:
    view[: len(data)] = data
    return len(data)
