from typing import Any

class OVERLAPPED:
    Offset: int
    OffsetHigh: int
    object: Any
    dword: Any
    hEvent: Any
    Internal: int
    InternalHigh: int

def has_completed(overlapped: OVERLAPPED) -> bool: ...
