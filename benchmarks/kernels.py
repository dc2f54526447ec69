"""The fastest kernels of OpenBLAS for everybody: what a benchmark settles before NumPy and FAISS multiply anything."""

import os
import sys
from pathlib import Path


def best_kernels() -> None:
    """Start this script again, unless it has been, with the kernels that the processor can run, one thread a product.

    FAISS's wheel brings an OpenBLAS that does not know newer processors and takes its slowest kernels for them,
    which would handicap peers; another family left in `OPENBLAS_CORETYPE` would handicap NumPy. Products are small and
    every library here spreads its queries over threads of its own.
    """
    wanted = {"OPENBLAS_NUM_THREADS": "1"}
    flags = Path("/proc/cpuinfo").read_text(encoding="utf-8") if Path("/proc/cpuinfo").exists() else ""
    if "avx2" in flags:
        wanted["OPENBLAS_CORETYPE"] = "SkylakeX" if "avx512vl" in flags else "Haswell"
    if any(os.environ.get(name) != value for name, value in wanted.items()):
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **wanted})
