"""The code, package versions and machine that made a result, which are written beside it."""

import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

PACKAGES = ("torch", "torchvision", "timm", "nvidia-dali-cuda130", "scikit-learn", "numpy", "pillow")


def versions() -> dict[str, str]:
    """Return the versions of Python and of every package that can change a number."""
    return {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}}


def machine() -> dict[str, Any]:
    """Return the host's name, processor architecture and number of usable cores."""
    return {"host": platform.node(), "machine": platform.machine(), "cores": len(os.sched_getaffinity(0))}


def commit() -> str:
    """Return the commit that is checked out, with `+changes` if tracked files differ from it; `unknown` outside git."""

    def git(*arguments: str) -> str:
        return subprocess.run(["git", *arguments], capture_output=True, text=True, check=True).stdout.strip()

    try:
        head, changes = git("rev-parse", "HEAD"), git("status", "--porcelain", "--untracked-files=no", "--", ":!dvc.lock")
    except (subprocess.CalledProcessError, FileNotFoundError):
        return "unknown"
    return head + ("+changes" if changes else "")


def processor() -> str:
    """Return the name of the processor, since different processors may round differently."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
