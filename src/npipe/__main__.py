"""`python -m npipe` is the command `npipe`."""

from __future__ import annotations

import sys

from _npipe_command import main

if __name__ == "__main__":
    sys.exit(main())
