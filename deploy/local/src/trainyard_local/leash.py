"""A child that does not outlive its parent, whatever ends the parent."""

import ctypes
import os
import signal
import sys
from collections.abc import Callable

_PR_SET_PDEATHSIG = 1
# Loaded here: after a fork nothing may be imported or looked up.
_PRCTL = ctypes.CDLL(None, use_errno=True).prctl if sys.platform == "linux" else None


def dies_with_parent(sends: signal.Signals = signal.SIGKILL) -> Callable[[], None]:
    """For `preexec_fn`: the kernel sends the signal when the thread that started the child is gone.

    It holds across `exec` and `unshare --user`, but not for the child's own children. Only Linux has it.
    """
    parent = os.getpid()

    def leash() -> None:
        if _PRCTL is not None:
            _PRCTL(_PR_SET_PDEATHSIG, int(sends), 0, 0, 0)
            if os.getppid() != parent:  # it died before the leash was on
                os._exit(1)

    return leash
