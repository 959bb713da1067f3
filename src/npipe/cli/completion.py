"""`npipe completion`: what a shell needs to complete the commands, their options, and the names of pipes."""

from __future__ import annotations

import click

from npipe.cli.common import examples
from npipe.cli.statuses import statuses

__all__ = ["completion"]

_VARIABLE = "_NPIPE_COMPLETE"


_EXAMPLES = examples(r"""Examples, for the file that your shell reads when it starts:
  eval "$(npipe completion bash)"                                  ~/.bashrc
  eval "$(npipe completion zsh)"                                   ~/.zshrc
  npipe completion fish > ~/.config/fish/completions/npipe.fish
""")


@click.command(
    epilog=f"{_EXAMPLES}\n{statuses()}", short_help="Print what a shell needs to complete commands and names."
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    r"""Print the script by which a shell completes `npipe`: commands, options, and the names of pipes."""
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    assert kind is not None  # noqa: S101 - it is one of the choices
    maker = kind(ctx.find_root().command, {}, "npipe", _VARIABLE)
    # Not source(): it starts a bash to ask for its version, which need not be where the script is printed.
    click.echo(maker.source_template % maker.source_vars(), nl=False)
