"""What a step costs: wall time with the device drained, and the most memory it took."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

__all__ = ["Cost", "measured"]

STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


@dataclass(slots=True)
class Cost:
    """Seconds of wall time, and the most bytes in use beyond those in use before.

    On CUDA the bytes are those that torch allocated. On a CPU they are the process's: on Linux
    its peak within the block, elsewhere only as far as it exceeds all earlier peaks.
    """

    seconds: float = 0.0
    peak_bytes: int = 0


@contextlib.contextmanager
def measured(device: torch.device) -> Iterator[Cost]:
    """A `Cost` that is filled in when the block ends well."""
    cost = Cost()
    before = _reset(device)
    start = time.perf_counter()
    yield cost
    _drain(device)
    cost.seconds = time.perf_counter() - start
    cost.peak_bytes = max(0, _peak(device) - before)


def _drain(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def _reset(device: torch.device) -> int:
    """Start a new peak, and give what is in use now."""
    _drain(device)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return torch.cuda.memory_allocated(device)
    with contextlib.suppress(OSError):
        CLEAR.write_text("5")  # resets the peak, VmHWM
        return _status("VmRSS")
    return _peak(device)


def _peak(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    with contextlib.suppress(OSError):
        return _status("VmHWM")
    import resource  # not on Windows

    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


def _status(name: str) -> int:
    """A line of the process's status, in bytes."""
    for line in STATUS.read_text().splitlines():
        if line.startswith(name):
            return int(line.split()[1]) * 1024
    raise OSError(f"{STATUS} has no {name}")
