"""`npipe demo`: what pipes are and do, in half a minute."""

from __future__ import annotations

import sys

import click

from npipe.cli.common import examples
from npipe.cli.statuses import statuses

__all__ = ["demo"]

_EXAMPLES = examples(r"""Examples:
  npipe demo
  npipe demo | cat       without colours
  python -m npipe demo   without click and rich
""")


@click.command(
    epilog=f"{_EXAMPLES}\n{statuses()}", short_help="Show pipes at work: servers and clients that talk, and how fast."
)
def demo() -> None:
    r"""Show pipes at work, in some seconds.

    Servers and clients, each a process of its own, say what they do: the programs of Microsoft's articles, a client
    that waits while the server is busy, a reply that is read in pieces, the three models of a server. Then it measures
    a round trip beside multiprocessing.connection's, and says what to try next.

    It needs nothing beside npipe: `python -m npipe demo` is there without the extra `cli`.
    """
    from npipe.cli.demonstration.story import tell

    sys.exit(tell())
