"""A small disk of a test's own, which can be full."""

import errno
import os
import subprocess
from contextlib import suppress
from pathlib import Path

MEGABYTES = 128


class Disk:
    """A file system in memory, mounted at `path`: its "no space left" is the kernel's. Mounting is for root."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._ballast = path / ".ballast"

    def mount(self) -> bool:
        """Mount it; return whether this process may."""
        self.path.mkdir(exist_ok=True)
        command = ["mount", "-t", "tmpfs", "-o", f"size={MEGABYTES}m", "cairn-faults", str(self.path)]
        with suppress(FileNotFoundError):
            return subprocess.run(command, capture_output=True, check=False).returncode == 0
        return False

    def unmount(self) -> None:
        """Leave nothing behind, even while somebody still has a file open there."""
        subprocess.run(["umount", "--lazy", str(self.path)], check=True)

    def fill(self) -> None:
        """Take all the room that is left."""
        with self._ballast.open("wb") as file:
            page = os.sysconf("SC_PAGE_SIZE")
            wanted = MEGABYTES << 20
            while wanted >= page:
                try:
                    os.posix_fallocate(file.fileno(), 0, file.seek(0, os.SEEK_END) + wanted)
                except OSError as error:
                    if error.errno != errno.ENOSPC:
                        raise
                    wanted //= 2

    def free(self) -> None:
        """Give the room back."""
        self._ballast.unlink(missing_ok=True)
