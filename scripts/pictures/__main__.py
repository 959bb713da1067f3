"""Draws all pictures in docs/images: python -m scripts.pictures."""

from __future__ import annotations

from pathlib import Path

from .drawn import CHECKOUT, drawn


def main() -> None:
    """Write what is not there as it should be, and say what that is."""
    for name, text in drawn().items():
        path = Path(CHECKOUT, "docs", "images", name)
        if not path.exists() or path.read_text("utf-8") != text:
            path.write_text(text, encoding="utf-8", newline="\n")
            print(path.relative_to(CHECKOUT))


if __name__ == "__main__":
    main()
