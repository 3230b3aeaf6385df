"""Keeps freed memory for the next tensors, which the C library would otherwise return to the system."""

from __future__ import annotations

import ctypes
import platform

# From glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -4, -8
_NEVER = 2**31 - 1


def keep_freed_memory() -> bool:
    """Make glibc keep freed memory; returns false if the C library is another one.

    By default glibc maps memory for each large tensor and unmaps it when the tensor is freed, so that the system clears
    all pages again in every iteration: a third of the time of a pass at full resolution (``docs/benchmarks.md``).
    Only for processes that train or predict and then end; another program would keep its memory as well.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    libc = ctypes.CDLL(None)
    # A single arena, since the arenas of threads consist of small mapped pieces that large tensors do not fit into.
    settings = {_M_MMAP_MAX: 0, _M_TRIM_THRESHOLD: _NEVER, _M_ARENA_MAX: 1}
    return all(libc.mallopt(option, value) == 1 for option, value in settings.items())
