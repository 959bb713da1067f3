"""The protocol's page, its examples, and npipe: they keep together."""

import sys

from tests.helpers import CHECKOUT

sys.path.insert(0, str(CHECKOUT / "examples" / "protocol"))  # where the examples find each other
