"""Where and with what it was measured."""

import datetime
import os
import platform
from pathlib import Path
from typing import Any

SPEED_VARIABLES = ("OPENBLAS_", "OMP_", "MKL_", "XLA_", "JAX_")
"""Beginnings of names of environment variables that change how fast something is."""


def header() -> dict[str, Any]:
    """The machine, and how busy it is at the start."""
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "processor": processor(),
        "cores": cores(),
        "system": f"{platform.system()} {platform.release()}",
        "load": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "environment": {name: value for name, value in os.environ.items() if name.startswith(SPEED_VARIABLES)},
        "dtype": "float32",
    }


def cores() -> int:
    """That this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def processor() -> str:
    """Its model, as far as the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
