"""Real servers for tests, each ended with the session that started it."""

import ctypes
import os
import signal
import sys
from typing import Final

_PR_SET_PDEATHSIG: Final = 1
_libc = ctypes.CDLL(None)
_forking = 0


def _remember_who_forks() -> None:
    global _forking
    _forking = os.getpid()


os.register_at_fork(before=_remember_who_forks)


def end_with_parent() -> None:
    """Given to Popen as preexec_fn: the child is killed when its starter dies, however that is."""
    if sys.platform == "linux":
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != _forking:  # which had died before it could be tied to
            os.kill(os.getpid(), signal.SIGKILL)
