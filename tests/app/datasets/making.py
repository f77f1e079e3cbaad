"""Small data sets on disk and in archives, good ones and bad ones."""

import io
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

ATOMS, FRAMES = 4, 6


def arrays(frames: int = FRAMES, atoms: int = ATOMS, seed: int = 0) -> dict[str, np.ndarray[Any, Any]]:
    """Return the arrays of one set."""
    draw = np.random.default_rng(seed).normal
    return {
        "coord": draw(size=(frames, atoms * 3)),
        "box": np.tile(np.eye(3).ravel() * 8.0, (frames, 1)),
        "energy": draw(size=frames) - 10.0,
        "force": draw(size=(frames, atoms * 3)),
        "virial": draw(size=(frames, 9)),
    }


def write_system(
    root: Path,
    *,
    sets: int = 1,
    types: str = "0\n0\n1\n0\n",
    type_map: str | None = "O\nH\n",
    change: Callable[[dict[str, np.ndarray[Any, Any]]], None] | None = None,
) -> Path:
    """Write one system; `change` may spoil the arrays of its last set."""
    root.mkdir(parents=True)
    (root / "type.raw").write_text(types)
    if type_map is not None:
        (root / "type_map.raw").write_text(type_map)
    for number in range(sets):
        folder = root / f"set.{number:03d}"
        folder.mkdir()
        content = arrays(seed=number)
        if change is not None and number == sets - 1:
            change(content)
        for name, array in content.items():
            np.save(folder / f"{name}.npy", array)
    return root


def tar_of(root: Path, mode: str = "w", prefix: str = "") -> bytes:
    """Return a tar of a directory's content."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:
        archive.add(root, arcname=prefix or ".")
    return buffer.getvalue()


def zip_of(root: Path) -> bytes:
    """Return a zip of a directory's content."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(root.rglob("*")):
            archive.write(path, path.relative_to(root))
    return buffer.getvalue()


def tar_with(*members: tarfile.TarInfo, content: bytes = b"") -> bytes:
    """Return a tar of made-up members."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for member in members:
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def member(name: str, kind: bytes = tarfile.REGTYPE, size: int = 0, link: str = "") -> tarfile.TarInfo:
    """Return the header of a tar member."""
    info = tarfile.TarInfo(name)
    info.type, info.size, info.linkname = kind, size, link
    return info
