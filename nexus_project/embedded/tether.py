"""Runs a program that ends when its starter ends, even by `kill -9`: a script, never imported.

    python -I -S tether.py kernel STARTER_PID COMMAND...
    python -I -S tether.py pipe WATCHED_FD[,INHERITED_FD...] COMMAND...

`kernel` (Linux): asks the kernel for SIGKILL at the starter's death and becomes the command.
`pipe` (anywhere): runs the command in its own process group and waits; when the other end
of the pipe WATCHED_FD closes, which the starter's death does, it kills that group.

Needs nothing but the standard library: `-I -S` keeps its start at a few milliseconds.
"""

import os
import signal
import sys
from typing import NoReturn

PR_SET_PDEATHSIG = 1
COULD_NOT_START = 127


def tethered_by_kernel(starter: int, command: list[str]) -> NoReturn:
    import ctypes

    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")
    # A starter that died before the call above will not be reported: it is already gone.
    if os.getppid() != starter:
        sys.exit(COULD_NOT_START)
    os.execv(command[0], command)  # noqa: S606


def tethered_by_pipe(watched: int, inherited: list[int], command: list[str]) -> int:
    import subprocess
    import threading

    def kill_group_when_starter_is_gone() -> None:
        while os.read(watched, 1):
            pass
        os.killpg(0, signal.SIGKILL)

    # The whole group is signalled: the command answers, this process only waits for it.
    early: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda number, _frame: early.append(number))
    program = subprocess.Popen(command, pass_fds=inherited)  # noqa: S603
    for came_too_soon in early[:1]:
        program.send_signal(came_too_soon)
    threading.Thread(target=kill_group_when_starter_is_gone, daemon=True).start()
    status = program.wait()
    return status if status >= 0 else 128 - status


def main(mode: str, starter: str, *command: str) -> NoReturn:
    try:
        if mode == "kernel":
            tethered_by_kernel(int(starter), list(command))
        watched, *inherited = map(int, starter.split(","))
        sys.exit(tethered_by_pipe(watched, inherited, list(command)))
    except OSError as error:
        sys.stderr.write(f"{command[0]} could not be started: {error}\n")
        sys.exit(COULD_NOT_START)


if __name__ == "__main__":
    main(*sys.argv[1:])
