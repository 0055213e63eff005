"""`rsa doctor`: check that this machine computes what params.yaml asks for."""

from pathlib import Path

import click

from rsa.commands.options import params_file


@click.command()
@params_file
@click.pass_context
def doctor(ctx: click.Context, params_file: Path) -> None:
    """Check that this machine computes what params.yaml asks for.

    On random images of the recipe's sizes, in small batches, for every method of the experiment: several ranks against one, a
    continued run against a straight one, crops and colours against torchvision, time and memory of a step; and GPUs, disk and
    file locks. Takes minutes. Exits with 1 if a check fails.

    Example: rsa doctor
    """
    from rsa.checks import CHECKS
    from rsa.checks.outcome import FailedError, SkippedError
    from rsa.params.load import load
    from rsa.training.device import setup

    p = load(params_file)
    setup("cpu" if p.runtime.device == "cpu" else "auto", p.runtime.threads.pretrain, 0, p.runtime.kernels)
    failed = False
    for name, check in CHECKS.items():
        verdict: str
        try:
            verdict, words = "pass", check(p)
        except SkippedError as why:
            verdict, words = "skipped", str(why)
        except (FailedError, ValueError, FloatingPointError, RuntimeError) as why:
            verdict, words, failed = "FAIL", str(why).strip().splitlines()[-1], True
        print(f"{name:8} {verdict:8} {words}", flush=True)
    ctx.exit(failed)
