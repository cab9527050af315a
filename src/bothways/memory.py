"""Keeping freed memory, because a fresh page can cost more than the arithmetic done on it."""

import ctypes
import sys
from functools import cache

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
LARGE = 1 << 30


@cache
def keep_freed_memory() -> bool:
    """Have glibc keep and reuse freed memory of any size instead of handing it back to the kernel each time.

    Large tensors would otherwise be new pages, zeroed by the kernel, on every operation; in a virtual machine that is
    dear (measured in docs/decisions.md). It is a setting of the whole process, the same as starting it with
    MALLOC_MMAP_THRESHOLD_ and MALLOC_TRIM_THRESHOLD_. Returns whether it took effect; elsewhere than glibc it does
    nothing.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    return bool(mallopt(M_MMAP_THRESHOLD, LARGE) and mallopt(M_TRIM_THRESHOLD, LARGE))
