"""Taking in a directory of the server: a copy, so that later changes cannot alter a dataset."""

import os
import shutil
from pathlib import Path

from app.engines.intake.report import Order, refuse

JUNK = ("__MACOSX", ".DS_Store", "Thumbs.db")
"""What desktops and their archivers add."""


def copy_directory(order: Order, target: Path) -> None:
    """Copy the files below a directory. Links are followed only to places below the configured roots."""
    left, members = order.max_bytes, order.max_members
    for path in _files(order.source):
        real = path.resolve()
        inside = path.relative_to(order.source)
        if not any(real.is_relative_to(root) for root in order.roots):
            raise refuse(
                "outside-roots",
                f"{inside} is a link to {real}, which lies outside of CAIRN_DATASET_ROOTS.",
                "Copy the file, or add its place to the roots.",
            )
        if not real.is_file():
            raise refuse("not-a-file", f"{inside} is neither a file nor a folder.", "Remove it from the directory.")
        left -= real.stat().st_size
        members -= 1
        if left < 0 or members < 0:
            raise refuse(
                "dataset-too-large",
                f"The directory holds more than is accepted ({order.max_bytes} bytes, {order.max_members} files); "
                f"{inside} is too much.",
                "Raise CAIRN_MAX_DATASET_BYTES on the server, or free space in its data directory.",
            )
        destination = target / inside
        destination.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(real, destination)


def _files(source: Path) -> list[Path]:
    """List every file that may belong to the data; hidden ones and desktop junk do not."""
    found = []
    for root, directories, names in os.walk(source, followlinks=False):
        linked = [name for name in directories if (Path(root) / name).is_symlink()]
        if linked:
            raise refuse(
                "linked-directory",
                f"{Path(root, linked[0]).relative_to(source)} is a link to a directory.",
                "Register the directory that it leads to.",
            )
        directories[:] = sorted(name for name in directories if not name.startswith(".") and name not in JUNK)
        found += [Path(root) / name for name in sorted(names) if not name.startswith(".") and name not in JUNK]
    return found
