"""Entry point of `python -m rsa SUBCOMMAND`."""

from rsa.commands import PROGRAM, commands

if __name__ == "__main__":
    commands(prog_name=PROGRAM)
