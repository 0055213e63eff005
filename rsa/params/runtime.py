"""Section `runtime`: where and how stages run. No result depends on it beyond rounding, so DVC does not watch it."""

from typing import Annotated, Literal

from pydantic import Field

from rsa.params.section import Count, Fraction, Positive, Section


class Threads(Section):
    """CPU threads of one job."""

    pretrain: Count
    evaluation: Count
    probe: Count


class Checkpoint(Section):
    """Checkpoint interval, in steps or minutes, whichever is reached first."""

    steps: Count
    minutes: Positive


class Logging(Section):
    """Logging during training."""

    tensorboard: bool


class Runtime(Section):
    """Devices, processes, threads, checkpoints and logs."""

    device: Literal["auto", "cpu", "gpu"]
    gpus: Count
    nodes: Count
    processes: Literal["auto"] | Count
    threads: Threads
    probe_gpus: Literal[0, 1]
    compile: bool
    on_collapse: Literal["stop", "mark"]
    checkpoint: Checkpoint
    timeout_minutes: Positive
    snapshots: Annotated[list[Fraction], Field(min_length=1)]
    logging: Logging
