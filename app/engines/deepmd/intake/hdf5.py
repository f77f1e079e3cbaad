"""DeePMD-kit's HDF5 form of systems (`dp convert`, dpdata's deepmd/hdf5), unpacked into directories."""

from pathlib import Path
from typing import Any

import numpy as np

from app.engines.intake.report import Order, refuse

MAGIC = b"\x89HDF\r\n\x1a\n"


def is_hdf5(path: Path) -> bool:
    """Return whether a file is HDF5."""
    with path.open("rb") as file:
        return file.read(len(MAGIC)) == MAGIC


def unpack_hdf5(order: Order, source: Path, target: Path) -> None:
    """Write every dataset of the file as the file that the directory form has in its place. Raises Refused."""
    import h5py

    left = order.max_bytes

    def write(name: str, item: Any) -> None:
        nonlocal left
        if not isinstance(item, h5py.Dataset):
            return
        _check(name, item)
        left -= item.nbytes
        if left < 0:
            raise refuse("dataset-too-large", f"Unpacking {name!r} of {order.file_name} would exceed what is accepted.")
        path = target / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".npy":
            np.save(path, item[()], allow_pickle=False)
        else:
            path.write_bytes(_text(item[()]))

    try:
        with h5py.File(source, "r") as file:
            # Soft and external links are not visited: nothing outside of this file is ever opened.
            file.visititems(write)
    except OSError as error:
        if error.errno is not None:
            raise
        raise refuse("unreadable-data", f"{order.file_name} is damaged or no HDF5 file: {error}.") from error


def _check(name: str, item: Any) -> None:
    if ".." in name.split("/") or not name.isprintable():
        raise refuse("archive-unsafe", f"The dataset {name!r} leads out of the file.")
    if item.external or item.is_virtual:
        raise refuse("archive-unsafe", f"The dataset {name!r} keeps its values in other files.")
    if item.dtype.kind not in "fiuSO" or (item.dtype.kind == "O" and name.endswith(".npy")):
        raise refuse("not-numeric", f"The dataset {name!r} holds {item.dtype}, not numbers.")


def _text(value: Any) -> bytes:
    words = [word.decode() if isinstance(word, bytes) else str(word) for word in np.atleast_1d(value).ravel().tolist()]
    return "".join(f"{word}\n" for word in words).encode()
