from typing import Any

class OVERLAPPED:
    Offset: int
    OffsetHigh: int
    object: Any
    dword: Any
    hEvent: Any
    Internal: int
    InternalHigh: int

def keep_in_memory(overlapped: OVERLAPPED, address: int) -> None: ...
def has_completed(overlapped: OVERLAPPED) -> bool: ...
