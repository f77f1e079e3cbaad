"""Limits that a process puts on itself before it touches what strangers uploaded. Linux; there is no way back."""

import ctypes
import os
import re
import resource
from pathlib import Path

from worker.process import die_with_parent

_PR_SET_NO_NEW_PRIVS = 38
_CLONE_NEWUSER = 0x10000000
_CLONE_NEWNET = 0x40000000
_FILES = 256
_SECRET = re.compile(r"(TOKEN|SECRET|PASSWORD|PASSPHRASE|CREDENTIALS?|ACCESS_KEY|API_KEY|REDIS_URL|DATABASE_URL)(_|$)")


def confine(*, memory_bytes: int, cpu_s: int, file_bytes: int) -> None:
    """Limit this process for good.

    `memory_bytes` comes on top of what it has mapped already, `cpu_s` on top of what it has used; `file_bytes` is the
    largest file it may write. It keeps its open files, cannot gain privileges, and has no network where the kernel lets
    it give that up.
    """
    own = Path("/proc/self/statm").read_text().split()[0]
    used = resource.getrusage(resource.RUSAGE_SELF)
    _limit(resource.RLIMIT_AS, int(own) * resource.getpagesize() + memory_bytes)
    # Told by SIGXCPU first: the SIGKILL that follows would look like the kernel's answer to a lack of memory.
    _limit(resource.RLIMIT_CPU, int(used.ru_utime + used.ru_stime) + cpu_s, grace=5)
    _limit(resource.RLIMIT_FSIZE, file_bytes)
    _limit(resource.RLIMIT_NOFILE, _FILES)
    _limit(resource.RLIMIT_CORE, 0)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"prctl(PR_SET_NO_NEW_PRIVS): {os.strerror(error)}")
    _leave_the_network(libc)
    die_with_parent()  # the kernel may drop that wish with the change of namespace


def _limit(what: int, value: int, *, grace: int = 0) -> None:
    _, hard = resource.getrlimit(what)
    highest = value + grace if hard == resource.RLIM_INFINITY else min(value + grace, hard)
    resource.setrlimit(what, (min(value, highest), highest))


def _leave_the_network(libc: ctypes.CDLL) -> None:
    """Enter a network of our own that leads nowhere: as root at once, else through a user namespace, if allowed."""
    if libc.unshare(_CLONE_NEWNET) != 0:
        libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNET)


def without_secrets(environment: dict[str, str]) -> dict[str, str]:
    """Return an environment without the worker's token, the broker's address and whatever else is named like a secret."""
    return {name: value for name, value in environment.items() if not _SECRET.search(name.upper())}
