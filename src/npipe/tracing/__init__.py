"""What goes through pipes, seen and recorded: `npipe trace` and `npipe replay` (docs/tracing.md)."""

from __future__ import annotations

__all__: list[str] = []
