"""Launch of the processes of a run by torchrun: one per GPU on each node, or as many as params.yaml asks for.

On a single node torchrun's launcher runs in this process. On several nodes `torchrun` runs the command of this process again
for each rank: in a Slurm job `srun` starts it on all nodes; otherwise it starts on this node, and a person runs the same
command with MASTER_ADDR and NODE_RANK on each other node. If a process dies, all are restarted from the last checkpoint.
"""

import os
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from datetime import timedelta
from inspect import signature
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, record
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

import __main__
from rsa import distributed
from rsa.params.pretrain import Pretrain
from rsa.params.runtime import Runtime
from rsa.processes import end_with_parent
from rsa.training.checkpoint import Preempted, catch_signals

RESTARTS = 3  # restarts after a process has died, before the run fails
GRACE = 120  # seconds for writing a checkpoint after SIGTERM
# torch 2.11 cannot be told: there it is always 30 seconds.
GRACE_SETTING: dict[str, Any] = {"shutdown_timeout": GRACE} if "shutdown_timeout" in signature(LaunchConfig).parameters else {}
ENVIRONMENT = {  # of all processes of a run, unless it is set
    "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1",  # else a restarted worker may hang
    "TORCH_CPP_LOG_LEVEL": "ERROR",  # else each rank warns that it looks for unused parameters: rsa.training.forward says why
}
ERROR_FILE = "ended"  # file in the run's folder with the reason why a rank ended the run, which an exit code cannot carry


def processes(r: Runtime) -> int:
    """Return the number of processes on this node: `auto` is one per GPU of the run, 1 on the CPU.

    Raises ValueError if they are more than the GPUs that this process sees: NCCL takes one process per GPU.
    """
    gpus = torch.cuda.device_count() if r.device != "cpu" and torch.cuda.is_available() else 0
    if r.processes == "auto":
        return max(1, min(r.gpus, gpus))
    if gpus and r.processes > gpus:
        raise ValueError(
            f"runtime.processes must be at most the {gpus} GPUs that this job sees, got {r.processes}: "
            "lower it, raise runtime.gpus to it, or train on the CPU with runtime.device cpu"
        )
    return r.processes


def launch(p: Pretrain, r: Runtime, folder: Path, function: Callable[..., None], *arguments: Any) -> None:
    """Run `function(*arguments)` in every process of the run, or here if there is one; all nodes share `folder`.

    Raises ValueError with the error of the rank that failed, Preempted after SIGTERM.
    """
    count, nodes = processes(r), r.nodes
    if count * nodes == 1:
        function(*arguments)
        return
    if r.compile:
        raise ValueError(
            f"runtime.compile must be false for several processes ({count * nodes}), got true: "
            "what batch norms exchange cannot be compiled"
        )
    if p.batch_size % (count * nodes * p.accumulate):
        raise ValueError(
            f"pretrain.batch_size must be a multiple of processes x accumulate ({count * nodes} x {p.accumulate}), "
            f"got {p.batch_size}"
        )
    note = folder / ERROR_FILE
    folder.mkdir(parents=True, exist_ok=True)
    note.write_text("")  # created before the ranks start: NFS may cache that a file is missing
    os.environ |= ENVIRONMENT | os.environ
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        if nodes == 1:
            _on_this_node(r, count, note, function, *arguments)
        else:
            _on_all_nodes(r, note)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _on_this_node(r: Runtime, count: int, note: Path, function: Callable[..., None], *arguments: Any) -> None:
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=count,
        run_id=uuid.uuid4().hex,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        max_restarts=RESTARTS,
        **GRACE_SETTING,
        start_method="spawn",
    )
    try:
        elastic_launch(config, in_group)(r, note, function, *arguments)
    except SignalException as why:
        raise Preempted from why
    except ChildFailedError as why:
        _raise_noted(note)
        rank, failure = why.get_first_failure()
        message = failure.message if isinstance(failure.message, str) else failure.message.get("message", failure.message)
        raise ValueError(f"rank {rank} of {count} ended with exit code {failure.exitcode}: {message}") from why


def _on_all_nodes(r: Runtime, note: Path) -> None:
    command = torchrun(r)
    if by_hand():
        print(
            f"waiting for {r.nodes - 1} other nodes, on each of which someone gives, in this folder: MASTER_ADDR="
            f"{os.environ['MASTER_ADDR']} NODE_RANK=1 python -m {_module()} {' '.join(sys.argv[1:])}",
            flush=True,
        )
    else:
        nodes, threads = r.nodes, processes(r) * r.threads.pretrain
        start = ["srun", f"--nodes={nodes}", f"--ntasks={nodes}", "--ntasks-per-node=1", f"--cpus-per-task={threads}"]
        command = [*start, "--kill-on-bad-exit=1", *command]
    with catch_signals() as terminated:
        job = subprocess.Popen(command)
        while job.poll() is None and not (terminated() and by_hand()):
            time.sleep(0.5)
        if job.poll() is None:  # started by hand; Slurm signals every process itself, and a terminated srun would kill them
            job.terminate()
        code = job.wait()
    if code == 0:
        return
    if terminated():
        raise Preempted
    _raise_noted(note)
    raise ValueError(f"{command[0]} ended with exit code {code}: above is why; run again to continue from the last checkpoint")


def _raise_noted(note: Path) -> None:
    kind, _, text = note.read_text().partition(" ")
    if kind == "error":
        raise ValueError(text)
    if kind == "interrupted":
        raise Preempted


def by_hand() -> bool:
    """Return True if a person, not Slurm, starts the processes of other nodes."""
    return "MASTER_ADDR" in os.environ or "SLURM_JOB_ID" not in os.environ


def torchrun(r: Runtime) -> list[str]:
    """Return the torchrun command of this node in a multi-node run; each rank runs the command of this process."""
    if not by_hand():
        job = os.environ["SLURM_JOB_ID"]
        meeting = [f"--rdzv-endpoint={socket.gethostname()}:{20000 + int(job) % 10000}", f"--rdzv-id={job}"]
    elif "MASTER_ADDR" in os.environ:
        address, port = os.environ["MASTER_ADDR"], int(os.environ.get("MASTER_PORT", "29400"))
        meeting = [f"--rdzv-endpoint={address}:{port}", "--rdzv-id=by-hand", f"--rdzv-conf=is_host={int(not is_other_node())}"]
        meeting.append(f"--local-addr={_own_address(address, port)}")  # the host name may resolve to another interface
    else:
        raise ValueError(f"runtime.nodes {r.nodes} needs a Slurm job, or MASTER_ADDR to name the first node's address: not set")
    return [
        *(sys.executable, "-m", "torch.distributed.run"),
        *(f"--nnodes={r.nodes}", f"--nproc-per-node={processes(r)}", "--rdzv-backend=c10d", *meeting),
        *(f"--max-restarts={RESTARTS}", *([f"--shutdown-timeout={GRACE}"] if GRACE_SETTING else [])),
        *("-m", "--", _module(), *sys.argv[1:]),  # without `--` torchrun takes `--start` for an abbreviation of its own option
    ]


def _own_address(other: str, port: int) -> str:
    """Return the local address from which this host reaches another one (no packet is sent)."""
    family, kind, protocol, _, place = socket.getaddrinfo(other, port, type=socket.SOCK_DGRAM)[0]
    with socket.socket(family, kind, protocol) as probe:
        probe.connect(place)
        return str(probe.getsockname()[0])


def _module() -> str:
    spec = __main__.__spec__
    assert spec is not None, "torchrun starts modules again"
    return spec.name


def is_rank() -> bool:
    """Return True if torchrun has started this process."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def is_other_node() -> bool:
    """Return True if this process launches a non-leading node of a multi-node run."""
    return int(os.environ.get("NODE_RANK", "0")) > 0


def exec_torchrun(r: Runtime) -> None:
    """Replace this process by the torchrun of a non-leading node; does not return."""
    os.environ |= ENVIRONMENT | os.environ
    command = torchrun(r)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.execv(command[0], command)


@record
def in_group(r: Runtime, note: Path, function: Callable[..., None], *arguments: Any) -> None:
    """Run `function(*arguments)` as one rank of the process group that torchrun's environment describes."""
    end_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches every process; the launcher passes it on as SIGTERM
    kind, _, text = note.read_text().partition(" ")
    if kind == "error" and os.environ["TORCHELASTIC_RESTART_COUNT"] != "0":  # deterministic error: do not restart
        raise ValueError(text)
    join(r)
    try:
        function(*arguments)
    except Preempted:
        if distributed.rank() == 0:
            note.write_text("interrupted")
        raise
    except (ValueError, ArithmeticError) as why:
        note.write_text(f"error {why}")
        raise
    dist.destroy_process_group()  # not after an error: closing the group first would hide the root cause


def join(r: Runtime) -> None:
    """Initialise the process group."""
    on_gpu = r.device != "cpu" and torch.cuda.is_available()
    if on_gpu:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group("cpu:gloo,cuda:nccl" if on_gpu else "gloo", timeout=timedelta(minutes=r.timeout_minutes))
