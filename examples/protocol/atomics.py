"""Words of shared memory, the fence, and the futex: what Go has in sync/atomic and Rust in std::sync::atomic.

Python has no atomic words, so its operations are machine code here, of one to six instructions each. Loads
acquire, stores release, and what changes a word in one step does both (docs/protocol.md, section 4).
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import platform
import time
from typing import Final

__all__ = ["Words", "fence"]

_CODE: Final = {
    "x86_64": {
        "load64": "48 8b 07 c3",  # mov rax, [rdi]
        "load32": "8b 07 c3",  # mov eax, [rdi]
        "store64": "48 87 37 c3",  # xchg [rdi], rsi
        "store32": "87 37 c3",  # xchg [rdi], esi
        "swap32": "89 f0 f0 0f b1 17 c3",  # mov eax, esi; lock cmpxchg [rdi], edx
        "swap64": "48 89 f0 f0 48 0f b1 17 c3",  # the same of 64 bits
        "fence": "0f ae f0 c3",  # mfence
    },
    "aarch64": {
        "load64": "00fcdfc8 c0035fd6",  # ldar x0, [x0]
        "load32": "00fcdf88 c0035fd6",  # ldar w0, [x0]
        "store64": "01fc9fc8 c0035fd6",  # stlr x1, [x0]
        "store32": "01fc9f88 c0035fd6",  # stlr w1, [x0]
        # again: ldaxr w3, [x0]; cmp w3, w1; b.ne out; stlxr w4, w2, [x0]; cbnz w4, again; out: mov w0, w3
        "swap32": "03fc5f88 7f00016b 61000054 02fc0488 84ffff35 e003032a c0035fd6",
        "swap64": "03fc5fc8 7f0001eb 61000054 02fc04c8 84ffff35 e00303aa c0035fd6",  # the same of 64 bits
        "fence": "bf3b03d5 c0035fd6",  # dmb ish
    },
}
_FUTEX: Final = {"x86_64": 202, "aarch64": 98}  # the system call's number
_WAIT_BITSET, _WAKE_BITSET = 9, 10  # without FUTEX_PRIVATE_FLAG: the word is shared between processes

_machine: Final = platform.machine()
if _machine not in _CODE:
    raise ImportError(f"no code for {_machine} here: look what its compiler makes of them")

_libc: Final = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
_libc.syscall.restype = ctypes.c_long


def _assembled() -> dict[str, int]:
    """Map the code so that it can run; the operations' addresses."""
    code, places = b"", {}
    for name, text in _CODE[_machine].items():
        places[name] = len(code)
        code += bytes.fromhex(text).ljust(32, b"\0")
    file = os.memfd_create("atomics")
    os.write(file, code)
    start = _libc.mmap(None, len(code), mmap.PROT_READ | mmap.PROT_EXEC, mmap.MAP_SHARED, file, 0)
    os.close(file)
    if start in (None, ctypes.c_void_p(-1).value):
        raise ImportError("no memory here may have code: " + os.strerror(ctypes.get_errno()))
    return {name: start + place for name, place in places.items()}


_at: Final = _assembled()
_address, _u32, _u64 = ctypes.c_void_p, ctypes.c_uint32, ctypes.c_uint64
_load64: Final = ctypes.PYFUNCTYPE(_u64, _address)(_at["load64"])
_load32: Final = ctypes.PYFUNCTYPE(_u32, _address)(_at["load32"])
_store64: Final = ctypes.PYFUNCTYPE(None, _address, _u64)(_at["store64"])
_store32: Final = ctypes.PYFUNCTYPE(None, _address, _u32)(_at["store32"])
_swap32: Final = ctypes.PYFUNCTYPE(_u32, _address, _u32, _u32)(_at["swap32"])
_swap64: Final = ctypes.PYFUNCTYPE(_u64, _address, _u64, _u64)(_at["swap64"])
_fence: Final = ctypes.PYFUNCTYPE(None)(_at["fence"])


def fence() -> None:
    """Full fence: what this thread has stored is seen before it loads anything more."""
    _fence()


class _Timespec(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


class Words:
    """The words of mapped memory, by their offsets."""

    def __init__(self, memory: mmap.mmap) -> None:
        self._first: ctypes.c_char | None = ctypes.c_char.from_buffer(memory)  # keeps it mapped
        self._start = ctypes.addressof(self._first)

    def close(self) -> None:
        """Let the memory go: nothing here may be called any more."""
        self._first = None

    def load64(self, offset: int) -> int:
        """Load a word of 64 bits."""
        return int(_load64(self._start + offset))

    def load32(self, offset: int) -> int:
        """Load a word of 32 bits."""
        return int(_load32(self._start + offset))

    def store64(self, offset: int, value: int) -> None:
        """Store a word of 64 bits."""
        _store64(self._start + offset, value)

    def store32(self, offset: int, value: int) -> None:
        """Store a word of 32 bits."""
        _store32(self._start + offset, value)

    def swap32(self, offset: int, old: int, new: int) -> bool:
        """Store `new` if the word is `old`, in one step; whether it was."""
        return int(_swap32(self._start + offset, old, new)) == old

    def swap64(self, offset: int, old: int, new: int) -> bool:
        """The same of a word of 64 bits."""
        return int(_swap64(self._start + offset, old, new)) == old

    def change32(self, offset: int, keep: int, put: int, add: int = 0) -> int:
        """Store (word & keep | put) + add, in one step; what it was before."""
        while True:
            old = self.load32(offset)
            if self.swap32(offset, old, ((old & keep | put) + add) & 0xFFFFFFFF):
                return old

    def wait(self, offset: int, value: int, bits: int, deadline: float | None) -> bool:
        """Sleep while the word is `value`, until a wake with one of `bits`, a signal, or `deadline`.

        Args:
            offset: of the word.
            value: that it had before the caller looked for what it waits for.
            bits: which wakes concern the caller.
            deadline: on time.monotonic()'s clock, in seconds; None: none.

        Returns:
            Whether there is time left; then the caller looks again, whatever has woken it.
        """
        until = None
        if deadline is not None:
            until = ctypes.byref(_Timespec(int(deadline), int(deadline % 1 * 1e9)))
        ctypes.set_errno(0)
        slept = _libc.syscall(  # it lets other threads of Python run
            ctypes.c_long(_FUTEX[_machine]), ctypes.c_void_p(self._start + offset), ctypes.c_int(_WAIT_BITSET),
            ctypes.c_uint(value), until, None, ctypes.c_uint(bits),
        )  # fmt: skip
        late = slept != 0 and ctypes.get_errno() == errno.ETIMEDOUT
        return not late and (deadline is None or time.monotonic() < deadline)

    def wake(self, offset: int, bits: int) -> None:
        """Wake all that sleep on the word with one of `bits`."""
        _libc.syscall(
            ctypes.c_long(_FUTEX[_machine]), ctypes.c_void_p(self._start + offset), ctypes.c_int(_WAKE_BITSET),
            ctypes.c_int(0x7FFFFFFF), None, None, ctypes.c_uint(bits),
        )  # fmt: skip
