"""Tells glibc to keep the memory of freed tensors for the next ones, which the kernel would have to clear first."""

from __future__ import annotations

import ctypes
import sys

# The numbers of malloc.h.
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD = -1, -2, -3


def keep_freed_memory() -> None:
    """Lets large blocks come from the heap, which does not shrink; on other systems than Linux with glibc, nothing.

    Every step of a network frees and takes the same tens of megabytes again.
    """
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none
    if mallopt is None:
        return
    # Some versions of glibc refuse more than 32 MiB; without the first of these the others would do harm.
    if any(mallopt(M_MMAP_THRESHOLD, threshold) for threshold in (2**31 - 1, 32 << 20)):
        mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
        mallopt(M_TOP_PAD, 256 << 20)
