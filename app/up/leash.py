"""Run a command that is told to end when its parent dies: `python leash.py PARENT_PID COMMAND…`.

A program of its own instead of a `preexec_fn`: code between fork and exec of a process with threads can deadlock.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main(parent: int, command: list[str]) -> None:
    """Ask the kernel for SIGTERM on the parent's death (it survives exec), then become the command."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != parent:
        # The parent died before the request was in force.
        sys.exit(128 + signal.SIGTERM)
    os.execvp(command[0], command)  # noqa: S606  (the command is `cairn up`'s own)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
