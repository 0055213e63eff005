"""A Slurm of virtual nodes on this machine, from Debian's packages: python -m tests.cluster.slurm [NODES [GPUS]]

Its daemons are children of the process that starts it and end with it; no systemd, no accounting, nothing under /etc. GPUs are
character devices that do nothing: Slurm hands them out and sets CUDA_VISIBLE_DEVICES. Run by hand it prints what to put
into the environment and stays until Ctrl-C.
"""

import contextlib
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import psutil

PACKAGES = ("slurmctld", "slurmd", "slurm-client", "munge")
DAEMONS = ("munged", "slurmctld", "slurmd")
CLIENTS = ("sbatch", "srun", "squeue", "scancel", "scontrol", "sinfo", "sacct")
PATIENCE = 300  # seconds, on a machine that has much else to do
WHERE = "/usr/sbin:/usr/bin:/sbin:/bin"

CONFIG = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.sock
CredType=cred/munge
SlurmctldPort={port}
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
ReturnToService=2
SchedulerType=sched/backfill
SchedulerParameters=bf_interval=1,sched_interval=2
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
GresTypes=gpu
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
SlurmdTimeout=120
KillWait=30
MinJobAge=3600
SlurmdParameters=config_overrides
"""


class MissingError(Exception):
    """Slurm cannot be had here, and why."""


def require() -> None:
    """MissingError where Slurm is not installed, unless it can be: in the gate, as root, with apt-get."""
    if os.geteuid() != 0:
        raise MissingError("a Slurm of one's own needs root")
    absent = [name for name in (*DAEMONS, "srun") if not shutil.which(name, path=WHERE)]
    if not absent:
        return
    wanted = f"apt-get install {' '.join(PACKAGES)}"
    if not os.environ.get("CI") or not shutil.which("apt-get"):
        raise MissingError(f"{', '.join(absent)} not installed: {wanted}")
    for command in (["update"], ["install", "--yes", "--no-install-recommends", *PACKAGES]):
        environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
        done = subprocess.run(["apt-get", "-qq", *command], env=environment, capture_output=True, text=True, timeout=300)
        if done.returncode:
            raise MissingError(f"{wanted} failed: {(done.stderr.strip().splitlines() or ['no reason given'])[-1]}")


class Slurm:
    """Nodes n1, n2, ...; `environment` makes the clients speak to it."""

    def __init__(self, nodes: int, gpus: int) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="slurm-", dir="/tmp"))
        self.folder.chmod(0o755)
        self.nodes = [f"n{number}" for number in range(1, nodes + 1)]
        self.gpus = gpus
        self.daemons: dict[str, subprocess.Popen[bytes]] = {}
        self.environment: dict[str, str] = {}

    def start(self) -> None:
        """Start all daemons and wait until every node is idle; MissingError where the machine does not let us."""
        (self.folder / "state").mkdir()
        (self.folder / "bin").mkdir()
        key = self.folder / "munge.key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o600)
        for number in range(self.gpus):
            try:
                os.mknod(self.folder / f"gpu{number}", stat.S_IFCHR | 0o600, os.makedev(1, 3))
            except PermissionError as why:
                raise MissingError(f"fake GPUs cannot be made: {why}") from None
        self.configure()
        for client in CLIENTS:  # jobs lose SLURM_CONF on their way, PATH stays
            script = self.folder / "bin" / client
            script.write_text(f'#!/bin/sh\nSLURM_CONF={self.folder}/slurm.conf exec {shutil.which(client, path=WHERE)} "$@"\n')
            script.chmod(0o755)
        self.environment["PATH"] = (
            f"{self.folder / 'bin'}{os.pathsep}{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        )
        files = [f"--{name}-file={self.folder}/munge.{name}" for name in ("key", "pid", "log", "seed")]
        self.daemon("munged", "munged", "--foreground", "--force", f"--socket={self.folder}/munge.sock", *files)
        wait_until((self.folder / "munge.sock").exists, "munged listens")
        self.daemon("slurmctld", "slurmctld", "-D", "-i", "-f", f"{self.folder}/slurm.conf")
        for node in self.nodes:
            self.start_node(node)
        wait_until(lambda: self.states() == ["idle"] * len(self.nodes), "all nodes are idle", self.log)

    def configure(self) -> None:
        host, port = socket.gethostname().partition(".")[0], free_port()
        lines = [CONFIG.format(host=host, folder=self.folder, port=port)]
        shape = f"CPUs=8 RealMemory=64000 Gres=gpu:{self.gpus} State=UNKNOWN"
        lines += [f"NodeName={node} NodeHostname={host} NodeAddr=127.0.0.1 Port={free_port()} {shape}" for node in self.nodes]
        lines += [f"PartitionName=main Nodes={','.join(self.nodes)} Default=YES MaxTime=INFINITE State=UP", ""]
        (self.folder / "slurm.conf").write_text("\n".join(lines))
        devices = f"{self.folder}/gpu[0-{self.gpus - 1}]"
        (self.folder / "gres.conf").write_text(f"NodeName={','.join(self.nodes)} Name=gpu File={devices}\n")

    def daemon(self, name: str, program: str, *arguments: str) -> None:
        command = [shutil.which(program, path=WHERE) or program, *arguments]
        environment = os.environ | {"SLURM_CONF": f"{self.folder}/slurm.conf"}
        with (self.folder / f"{name}.out").open("ab") as out:
            self.daemons[name] = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=out, stderr=out)

    def start_node(self, node: str) -> None:
        self.daemon(node, "slurmd", "-D", "-N", node, "-f", f"{self.folder}/slurm.conf")

    def kill_node(self, node: str) -> None:
        """As at a power cut: kill -9 of its daemon and of all that runs on it; a site's health check then tells Slurm."""
        self.daemons[node].kill()
        self.daemons[node].wait()
        kill_all(self.steps(node))
        self.call("scontrol", "update", f"NodeName={node}", "State=DOWN", "Reason=killed")

    def steps(self, node: str) -> list[psutil.Process]:
        """The slurmstepd of every step on a node: children of nobody, with a socket in the node's spool folder."""
        mine = f"{self.folder}/spool-{node}/"
        found = [process for process in psutil.process_iter(["name"]) if process.info["name"] == "slurmstepd"]
        return [process for process in found if any(mine in socket for socket in sockets_of(process))]

    def call(self, *command: str) -> str:
        """What a client prints."""
        environment = os.environ | self.environment
        return subprocess.run(command, env=environment, check=True, text=True, capture_output=True, timeout=PATIENCE).stdout

    def states(self) -> list[str]:
        return self.call("sinfo", "--noheader", "--Node", "--format=%T").split()

    def jobs(self) -> list[str]:
        """Ids of the jobs that have not ended."""
        return self.call("squeue", "--noheader", "--format=%i").split()

    def hurry(self, job: str) -> None:
        """Start a job that was queued again: Slurm lets it wait two minutes."""
        wait_until(
            lambda: "PENDING" in self.call("squeue", "--noheader", "--jobs", job, "--format=%T"), f"job {job} is queued again"
        )
        self.call("scontrol", "update", f"JobId={job}", "StartTime=now+3")  # its credentials are revoked to the second

    def log(self) -> str:
        """The end of what each daemon said."""
        tails = [f"{file.name}:\n" + "\n".join(file.read_text().splitlines()[-15:]) for file in self.folder.glob("*.out")]
        return "\n".join(tails)

    def stop(self) -> None:
        """End all jobs, then all daemons, whatever state they are in."""
        for node in self.nodes:
            kill_all(self.steps(node))
        for name in reversed(list(self.daemons)):
            daemon = self.daemons[name]
            daemon.terminate()
            try:
                daemon.wait(10)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()
        shutil.rmtree(self.folder)


def sockets_of(process: psutil.Process) -> list[str]:
    try:
        return [connection.laddr for connection in process.net_connections("unix")]
    except psutil.Error:  # it has just ended
        return []


def kill_all(processes: list[psutil.Process]) -> None:
    """And what they have started."""
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            for one in [process, *process.children(recursive=True)]:
                one.kill()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until(true: Callable[[], object], what: str, log: Callable[[], str] = str) -> None:
    end = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < end, f"waited {PATIENCE} s in vain until {what}\n{log()}"
        time.sleep(0.1)


def main() -> None:
    nodes, gpus = (int(number) for number in [*sys.argv[1:], "2", "2"][:2])
    require()
    slurm = Slurm(nodes, gpus)
    for end in (signal.SIGINT, signal.SIGTERM):
        signal.signal(end, lambda *_: sys.exit())
    try:
        slurm.start()
        print(f"export PATH={slurm.folder / 'bin'}:$PATH", flush=True)
        signal.pause()
    finally:
        slurm.stop()


if __name__ == "__main__":
    main()
