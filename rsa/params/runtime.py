"""Section `runtime`: where and how stages run. No result depends on it beyond rounding, so DVC does not watch it."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from rsa.params.section import Count, Fraction, Positive, Section


class Threads(Section):
    """CPU threads of one job."""

    pretrain: Count
    evaluation: Count
    probe: Count


class Kernels(Section):
    """Settings of torch that choose its kernels on a GPU."""

    deterministic: bool
    tf32: bool
    cudnn_benchmark: bool

    @model_validator(mode="after")
    def _bits(self) -> Self:
        if self.deterministic and self.cudnn_benchmark:
            raise ValueError("cudnn_benchmark must be false if deterministic is true: timings choose a kernel, and so the bits")
        return self


STRICT = Kernels(deterministic=True, tf32=False, cudnn_benchmark=False)


class Checkpoint(Section):
    """Checkpoint interval, in steps or minutes, whichever is reached first."""

    steps: Count
    minutes: Positive


class OnlineProbe(Section):
    """Classifiers of the encoder while it is trained: every so many epochs, 0 for never, on so many training images."""

    every_epochs: Annotated[int, Field(ge=0)]
    samples: Annotated[int, Field(ge=16)]


class Runtime(Section):
    """Devices, processes, threads, checkpoints and logs."""

    device: Literal["auto", "cpu", "gpu"]
    gpus: Count
    nodes: Count
    processes: Literal["auto"] | Count
    threads: Threads
    probe_gpus: Literal[0, 1]
    compile: bool
    kernels: Kernels
    portable: bool
    on_collapse: Literal["stop", "mark"]
    checkpoint: Checkpoint
    timeout_minutes: Positive
    snapshots: Annotated[list[Fraction], Field(min_length=1)]
    online_probe: OnlineProbe
    logging: list[Literal["tensorboard", "wandb", "mlflow"]]
