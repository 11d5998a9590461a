"""How the process keeps its memory."""

from __future__ import annotations

import ctypes
import sys

# <malloc.h>: parameters of mallopt(3).
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4


def keep_freed_memory() -> None:
    """Tell glibc to keep large freed blocks instead of returning them at once.

    By default each large tensor is mapped, page by page zeroed by the kernel, and
    unmapped again when it is freed. A training step on the CPU took twice as long for
    it. Does nothing with other C libraries.
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_MMAP_MAX, 0)
        mallopt(_TRIM_THRESHOLD, 2**31 - 1)
        mallopt(_TOP_PAD, 2**28)
