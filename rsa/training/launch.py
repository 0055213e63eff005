"""Starting the processes of a run: torchrun's own launcher, one process per GPU, or as many as params.yaml asks for."""

import ctypes
import os
import signal
import uuid
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, record
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from rsa.params import Pretrain
from rsa.training.checkpoint import Interrupted

PR_SET_PDEATHSIG = 1  # of Linux's prctl


def processes(p: Pretrain) -> int:
    """Of this node: `auto` is one per GPU, 1 on the CPU."""
    if p.launch.processes != "auto":
        return p.launch.processes
    return max(1, torch.cuda.device_count()) if p.device != "cpu" else 1


def launch(p: Pretrain, function: Callable[..., None], *arguments: Any) -> None:
    """Run `function(*arguments)` in every process of the run, or here if there is one. ValueError names the rank that died.

    Several nodes meet at MASTER_ADDR:MASTER_PORT.
    """
    count = processes(p)
    if count * p.launch.nodes == 1:
        function(*arguments)
        return
    if p.batch_size % (count * p.launch.nodes * p.accumulate):
        raise ValueError(
            f"pretrain.batch_size must be a multiple of processes x accumulate ({count * p.launch.nodes} x {p.accumulate}), "
            f"got {p.batch_size}"
        )
    if p.launch.nodes > 1 and "MASTER_ADDR" not in os.environ:
        raise ValueError(f"MASTER_ADDR must name the first node's address for pretrain.launch.nodes {p.launch.nodes}: not set")
    os.environ.setdefault("TORCH_DISABLE_SHARE_RDZV_TCP_STORE", "1")  # else a restarted worker may hang
    endpoint = f"{os.environ['MASTER_ADDR']}:{os.environ.get('MASTER_PORT', '29400')}" if p.launch.nodes > 1 else "localhost:0"
    config = LaunchConfig(
        min_nodes=p.launch.nodes,
        max_nodes=p.launch.nodes,
        nproc_per_node=count,
        run_id=os.environ.get("SLURM_JOB_ID", uuid.uuid4().hex if p.launch.nodes == 1 else "rsa"),
        rdzv_backend="c10d",
        rdzv_endpoint=endpoint,
        max_restarts=0,
        start_method="spawn",
    )
    try:
        elastic_launch(config, _in_group)(p, function, *arguments)
    except SignalException as why:
        raise Interrupted from why
    except ChildFailedError as why:
        rank, failure = why.get_first_failure()
        if failure.exitcode == Interrupted.code:
            raise Interrupted from why
        message = failure.message if isinstance(failure.message, str) else failure.message.get("message", failure.message)
        raise ValueError(f"rank {rank} of {count * p.launch.nodes} ended with exit code {failure.exitcode}: {message}") from why


@record
def _in_group(p: Pretrain, function: Callable[..., None], *arguments: Any) -> None:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)  # ranks must not outlive a killed launcher
    join(p)
    function(*arguments)
    dist.destroy_process_group()  # not after an error: its closed connections would be blamed first


def join(p: Pretrain) -> None:
    """Join the process group that torchrun's environment describes."""
    on_gpu = p.device != "cpu" and torch.cuda.is_available()
    if on_gpu:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group("cpu:gloo,cuda:nccl" if on_gpu else "gloo", timeout=timedelta(minutes=p.launch.timeout_minutes))
