"""`rsa recipe`: write params.yaml from a recipe."""

from pathlib import Path

import click

from rsa.commands.options import FILE


def _beginning_with(_: click.Context, __: click.Parameter, typed: str) -> list[str]:
    """Return the recipes that a shell completes `typed` to."""
    from rsa import recipes

    return [name for name in recipes.names() if name.startswith(typed)]


@click.command()
@click.argument("name", required=False, help="The recipe, as --list calls it.", shell_complete=_beginning_with)
@click.option("--out", type=FILE, default=Path("params.yaml"), show_default=True, help="The file to write.")
@click.option("--force", is_flag=True, help="Overwrite a file that has been edited.")
@click.option("--list", "list_recipes", is_flag=True, help="List the recipes instead.")
def recipe(name: str | None, out: Path, force: bool, list_recipes: bool) -> None:
    """Write params.yaml from a recipe, complete and commented.

    A file that is a recipe as it was written is overwritten, one that has been edited only with --force.

    Example: rsa recipe cifar10
    """
    from rsa import recipes

    if list_recipes:
        for each in recipes.names():
            print(f"{each:24}{recipes.headline(each)}")
        return
    if name is None:
        raise click.UsageError("name a recipe; --list lists them")
    recipes.require_name(name)
    if out.exists() and not force and recipes.is_edited(out):
        raise ValueError(f"{out} exists with {_other(recipes.differences(out, name))} than {name}'s: --force overwrites it")
    recipes.write(name, out)
    print(f"{out}: {recipes.headline(name)}")


def _other(keys: list[str], shown: int = 5) -> str:
    """Describe the values that differ in an edited file."""
    if not keys:
        return "other comments"
    return f"other values ({', '.join(keys[:shown])}{f' and {len(keys) - shown} more' if len(keys) > shown else ''})"
