"""The whole workflow on Slurm through profiles/slurm, a pretraining run on two of its nodes, and what goes wrong there."""

import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cluster.checkout import PRETRAIN, Checkout, stop
from tests.cluster.slurm import Slurm, wait_until

SNAKEMAKE = ("python", str(Path(__file__).with_name("eager_snakemake.py")), "--profile", "profiles/slurm", "--latency-wait", "10")


def test_jobs_at_once_have_disjoint_devices(slurm: Slurm, checkout: Checkout) -> None:
    """Two nodes of two GPUs: four jobs of one GPU hold one each, while all four run; three on one node are refused."""
    hold, said = checkout.folder / "hold", checkout.folder / "said"
    hold.touch()
    said.mkdir()
    command = f'echo "$SLURMD_NODENAME $CUDA_VISIBLE_DEVICES" > {said}/$SLURM_JOB_ID; while [ -e {hold} ]; do sleep 0.1; done'
    job = f"cd {checkout.folder} && exec python -m engines.devices 1 sh -c '{command}'"
    for _ in range(4):
        slurm.call("sbatch", "--gpus=1", "--mem=100", f"--output={checkout.folder}/%j.out", "--wrap", job)
    wait_until(lambda: len(list(said.glob("*"))) == 4, "four jobs run at once", checkout.logs)
    devices = [file.read_text() for file in said.glob("*")]
    assert sorted(devices) == [f"{node} {number}\n" for node in ("n1", "n2") for number in (0, 1)]
    hold.unlink()
    wait_until(lambda: not slurm.jobs(), "the jobs have ended")
    with pytest.raises(Exception, match="returned non-zero exit status 1"):
        slurm.call("sbatch", "--nodes=1", "--gres=gpu:3", "--wrap", "true")


def test_the_workflow_ends_as_if_nothing_had_happened(slurm: Slurm, checkout: Checkout, uninterrupted: Callable[[], str]) -> None:
    """Every stage through the profile. The run on two nodes loses a worker, is pre-empted, and loses a node."""
    checkout.environment |= slurm.environment
    snakemake = checkout.start("snakemake", *SNAKEMAKE)

    def until(true, what: str) -> None:
        wait_until(lambda: true() or snakemake.poll() is not None, what, checkout.logs)
        assert snakemake.poll() is None, f"{what}:\n{checkout.logs()}"

    def go_on(what: str) -> None:
        """Until the run has come further than it is now."""
        step = checkout.step()
        until(lambda: checkout.step() > step, f"a checkpoint after step {step}, {what}")

    try:
        go_on("at first")
        (job,) = re.findall(r"pretrain/pretrain@byol-0/(\d+)\.log", checkout.logs())
        log = checkout.folder / f"logs/slurm/rule_run_pretrain/{PRETRAIN}/{job}.log"
        ranks = checkout.ranks()
        assert {ranks[rank].environ()["SLURMD_NODENAME"] for rank in (0, 1)} == {"n1", "n2"}

        ranks[1].kill()
        go_on("after a worker was killed")
        assert {process.pid for process in checkout.ranks().values()}.isdisjoint({process.pid for process in ranks.values()})

        slurm.call("scontrol", "requeue", job)  # what a pre-emption does
        until(lambda: "stopped after step" in log.read_text(), "a checkpoint at SIGTERM")
        slurm.hurry(job)
        go_on("queued again")

        slurm.kill_node("n2")
        slurm.start_node("n2")
        slurm.hurry(job)
        assert snakemake.wait(400) == 0, checkout.logs()
    finally:
        stop(snakemake)
    assert checkout.encoder() == uninterrupted()
    assert (checkout.folder / "reports/report.md").exists()
    assert "Nothing to be done" in checkout.call("snakemake")
    assert "up to date" in checkout.call("dvc", "status")
    assert logged(checkout.folder) >= {"shard", "pretrain", "extract", "probe", "transfer", "report"}


def logged(folder: Path) -> set[str]:
    """Stages with a log."""
    return {Path(parent).name.removeprefix("rule_run_") for parent, folders, _ in os.walk(folder / "logs/slurm") if folders}
