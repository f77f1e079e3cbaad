"""Says what a file is by its first bytes, where it is not weights that can be used: a refusal should know the file."""

import re
import zipfile
from pathlib import Path

from worker.engines.base import RefusedFile

_USE = "Upload a checkpoint (.pt) of `dp --pt train`, a frozen model (.pth) of `dp --pt freeze`, or a checkpoint of Cairn's."
_CONVERT = "Convert it with `dp convert-backend MODEL OUTPUT.pth` of DeePMD-kit, and upload that."

_BY_START = (
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file", f"If it is a DeePMD-kit .dp model: {_CONVERT}"),
    (b"\x1f\x8b", "a gzip archive", f"Unpack it. {_USE}"),
    (b"BZh", "a bzip2 archive", f"Unpack it. {_USE}"),
    (b"\xfd7zXZ\x00", "an xz archive", f"Unpack it. {_USE}"),
    (b"\x28\xb5\x2f\xfd", "a zstd archive", f"Unpack it. {_USE}"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive", f"Unpack it. {_USE}"),
    (b"\x93NUMPY", "a NumPy array", _USE),
)
_TF_TABLE_END = bytes.fromhex("57fb808b247547db")
"""The last bytes of a TensorFlow checkpoint's `.index` file (a LevelDB table)."""
_PICKLE = re.compile(rb"\x80[\x02-\x05]")


def is_pickle(path: Path) -> bool:
    """Return whether a file starts as a pickle: how torch saved before 1.6."""
    with path.open("rb") as file:
        return _PICKLE.match(file.read(2)) is not None


def refusal(path: Path) -> RefusedFile:
    """Return why a file that is neither a zip archive nor a pickle is refused."""
    size = path.stat().st_size
    if size == 0:
        return RefusedFile("The file is empty (0 bytes).", "Upload it again: something cut it off.")
    with path.open("rb") as file:
        start = file.read(8192)
        file.seek(max(0, size - 8))
        end = file.read()
    what, hint = _look(start, end, size)
    return RefusedFile(f"The file is not weights of DeePMD-kit's PyTorch backend: it looks like {what}.", hint)


def _look(start: bytes, end: bytes, size: int) -> tuple[str, str]:
    for magic, what, hint in _BY_START:
        if start.startswith(magic):
            return what, hint
    if start.startswith(b"PK"):
        return "a zip archive that was cut off or damaged, as torch writes them", "Copy or upload it again."
    if start[257:262] == b"ustar":
        return "a tar archive", f"Unpack it. {_USE}"
    if start[8:9] == b"{" and int.from_bytes(start[:8], "little") < size:
        return "a safetensors file", f"DeePMD-kit does not use them. {_USE}"
    if end == _TF_TABLE_END:
        return "the index of a TensorFlow checkpoint", f"Freeze it with `dp freeze`. {_CONVERT}"
    if start.startswith(b"\n") and (b"\x12\x05Const" in start or b"Placeholder" in start):
        return "a frozen graph of the TensorFlow backend (.pb)", _CONVERT
    return _look_at_text(start)


def _look_at_text(start: bytes) -> tuple[str, str]:
    text = start[:2048].decode(errors="replace")
    if b"\0" in start or text.count("�") > 4:
        return "binary data of no kind known here", _USE
    if "model_checkpoint_path" in text:
        return "the list of checkpoints that the TensorFlow backend keeps", _USE
    if text.lstrip()[:1] in {"{", "["}:
        return "JSON", f"A config goes into a submission, not here. {_USE}"
    return f"text, beginning with {text.strip()[:40]!r}", _USE


def refusal_of_zip(archive: zipfile.ZipFile) -> RefusedFile:
    """Return why a zip archive that torch did not save as a checkpoint or a frozen model is refused."""
    names = archive.namelist()
    if any(name.endswith(("model_def_script.json", "archive_format")) or "aotinductor" in name for name in names):
        what = "a compiled model (.pt2): machine code for one kind of device, which cannot be trained"
        return RefusedFile(f"The file is {what}.", "Upload the checkpoint (.pt) that it was made from.")
    if names and all(name.endswith(".npy") for name in names):
        return RefusedFile("The file is a NumPy archive (.npz), not weights.", _USE)
    shown = ", ".join(names[:3]) or "nothing"
    return RefusedFile(f"The file is a zip archive, but not one that torch wrote: it holds {shown}.", _USE)
