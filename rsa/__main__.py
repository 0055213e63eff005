"""`python -m rsa SUBCOMMAND`: what people call by hand."""

from rsa.commands import PROGRAM, commands

if __name__ == "__main__":
    commands(prog_name=PROGRAM)
