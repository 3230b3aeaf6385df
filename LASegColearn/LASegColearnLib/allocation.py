"""Memory that the networks' tensors free is kept for the next ones, where the C library would hand it back."""

from __future__ import annotations

import ctypes
import platform

# From glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -4, -8
_NEVER = 2**31 - 1


def keep_freed_memory() -> bool:
    """Tell glibc to keep what is freed; returns whether there was a glibc to tell.

    By default it maps each large tensor anew and unmaps it when it is freed, so that in every iteration the system
    clears all pages again: a third of the time of a pass at full resolution (``docs/benchmarks.md``).
    For a process that trains or predicts and ends; in another program it would keep that program's memory, too.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    libc = ctypes.CDLL(None)
    # One arena, since the threads' own ones are made of small mapped pieces that large tensors do not fit into.
    settings = {_M_MMAP_MAX: 0, _M_TRIM_THRESHOLD: _NEVER, _M_ARENA_MAX: 1}
    return all(libc.mallopt(option, value) == 1 for option, value in settings.items())
