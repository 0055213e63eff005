"""Arithmetic that is the same on every x86-64 processor with AVX2, for `runtime.portable`.

torch, oneDNN, MKL and OpenBLAS each choose kernels by the processor's instructions, and the kernels round differently. Limited to
AVX2 they all take the same ones. MKL_CBWR is COMPATIBLE, since MKL's other branches differ between Intel's and AMD's processors.
The libraries read these variables while they load.
"""

import os
import sys
from pathlib import Path

LIMITS = {
    "ATEN_CPU_CAPABILITY": "avx2",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "MKL_CBWR": "COMPATIBLE",
    "OPENBLAS_CORETYPE": "Haswell",
}


def has_avx2(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Return True if the processor has AVX2 and FMA, which the limited kernels need."""
    try:
        flags = next((line for line in cpuinfo.read_text().splitlines() if line.startswith("flags")), "").split()
    except OSError:
        return False
    return {"avx2", "fma"} <= set(flags)


def start_again_limited() -> None:
    """Replace this process by one with the limits in its environment, unless it has them already.

    Without AVX2 it goes on as it is, and says so: its results differ in rounding from those of other machines.
    """
    if LIMITS.items() <= os.environ.items():
        return
    if not has_avx2():
        print("runtime.portable: this processor has no AVX2, so results may differ in rounding from another's", file=sys.stderr)
        return
    sys.stdout.flush()
    os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], os.environ | LIMITS)
