"""The computer's memory, and an estimate of the memory that a training needs."""

from __future__ import annotations

import math
import os
import sys
from pathlib import Path

from LASegColearnLib.methods import method_class
from LASegColearnLib.settings import Settings

_LIMIT_OF_A_CONTAINER = Path("/sys/fs/cgroup/memory.max")
# PyTorch, MONAI, and the scans that are read at the same time.
_WITHOUT_NETWORKS = 700_000_000
_BYTES_A_NUMBER = 4


def memory_of_a_training(settings: Settings) -> int:
    """Estimate of the peak memory in bytes of one model's training on a CPU in float32."""
    # Each part of a batch has one mixed patch.
    patches = (settings.labeled_batch + settings.unlabeled_batch) / settings.batch_parts + 1
    feature_map = _BYTES_A_NUMBER * settings.filters * math.prod(settings.patch_size)
    kept = method_class(settings.method).feature_maps_of_a_step
    return round(_WITHOUT_NETWORKS + kept * patches * feature_map)


def memory_of_the_computer() -> int | None:
    """Total memory in bytes, used or not, limited by the container (cgroup v2) if there is one; None if unknown."""
    found = [amount for amount in (_installed(), _of_the_container()) if amount is not None]
    return min(found, default=None)


def _installed() -> int | None:
    if sys.platform == "win32":
        return _installed_under_windows()
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        return None


def _installed_under_windows() -> int | None:
    """See https://learn.microsoft.com/windows/win32/api/sysinfoapi/nf-sysinfoapi-globalmemorystatusex."""
    if sys.platform != "win32":
        return None
    import ctypes

    class MemoryStatus(ctypes.Structure):
        _fields_ = [
            ("dwLength", ctypes.c_ulong),
            ("dwMemoryLoad", ctypes.c_ulong),
            ("ullTotalPhys", ctypes.c_ulonglong),
            ("ullAvailPhys", ctypes.c_ulonglong),
            ("ullTotalPageFile", ctypes.c_ulonglong),
            ("ullAvailPageFile", ctypes.c_ulonglong),
            ("ullTotalVirtual", ctypes.c_ulonglong),
            ("ullAvailVirtual", ctypes.c_ulonglong),
            ("ullAvailExtendedVirtual", ctypes.c_ulonglong),
        ]

    status = MemoryStatus(dwLength=ctypes.sizeof(MemoryStatus))
    known = ctypes.windll.kernel32.GlobalMemoryStatusEx(ctypes.byref(status))
    return int(status.ullTotalPhys) if known else None


def _of_the_container() -> int | None:
    try:
        return int(_LIMIT_OF_A_CONTAINER.read_text("ascii"))
    except (OSError, ValueError):
        # The file contains "max" if there is no limit.
        return None
