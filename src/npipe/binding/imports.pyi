from collections.abc import Callable
from typing import Any

def stand_in(
    name: str,
    asked: Callable[..., Any],
    original: Callable[..., Any],
    awaited: dict[str, Any],
    tell: Callable[[], object],
) -> Callable[..., Any]: ...
