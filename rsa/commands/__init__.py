"""Command-line interface: one command, `rsa` or `python -m rsa`, with a module for each subcommand.

A subcommand's module imports the library inside its function, so that `--help` and completion answer at once.
"""

import click

from rsa.commands.compare import compare
from rsa.commands.doctor import doctor
from rsa.commands.export import export
from rsa.commands.recipe import recipe
from rsa.commands.scaling import scaling
from rsa.commands.show import show
from rsa.commands.verify import verify

PROGRAM = "rsa"
EXTRAS = "the checkout by `make run`, or the extras of the package, `pip install 'rsa-ssl[pipeline,export]'`"


class Commands(click.Group):
    """A group whose subcommands end with one line and exit code 1 where the user's input or files are at fault."""

    def invoke(self, ctx: click.Context) -> object:
        """Run the subcommand."""
        try:
            return super().invoke(ctx)
        except ImportError as why:
            if why.name is None or why.name.partition(".")[0] == "rsa":
                raise  # a fault of ours
            click.echo(f"{PROGRAM} {ctx.invoked_subcommand}: error: {why}: install {EXTRAS}", err=True)
            ctx.exit(1)
        except BrokenPipeError:  # the reader of our output has gone: click ends quietly
            raise
        except (ValueError, OSError) as why:
            click.echo(f"{PROGRAM} {ctx.invoked_subcommand}: error: {why}", err=True)
            ctx.exit(1)


@click.group(
    PROGRAM,
    cls=Commands,
    context_settings={"max_content_width": 110, "help_option_names": ["-h", "--help"]},
    epilog="`rsa SUBCOMMAND --help` says more. Stages are run by `snakemake` or `dvc repro`.",
)
def commands() -> None:
    """Look at an experiment, check a machine, and take encoders elsewhere."""


for command in (compare, doctor, export, recipe, scaling, show, verify):
    commands.add_command(command)
