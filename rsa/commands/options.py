"""Options shared by several subcommands: the flag `--params`, and value types."""

from pathlib import Path

import click

FOLDER = click.Path(file_okay=False, path_type=Path)
FILE = click.Path(dir_okay=False, path_type=Path)

params_file = click.option(
    "--params",
    "params_file",
    type=FILE,
    default=Path("params.yaml"),
    show_default=True,
    help="The experiment's parameters.",
)
