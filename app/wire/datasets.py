"""What a client sends and reads about datasets."""

import re
from datetime import datetime
from typing import Any, Literal

from pydantic import Field

from app.wire.base import Message, View
from app.wire.relaxing import Finding

NAME_PATTERN = r"^[a-z0-9][a-z0-9._-]{0,62}$"

_REF = re.compile(r"^dataset:(?P<name>[a-z0-9][a-z0-9._-]{0,62})(?:@(?P<version>[1-9][0-9]*))?(?:/(?P<system>.+))?$")


class DatasetRef(View):
    """`dataset:NAME[@VERSION][/SYSTEM]`. Without a version: the newest. Without a system: all of them.

    A system is a part of a dataset: a system of atoms, or a file of text.
    """

    name: str
    version: int | None = None
    system: str | None = None

    @classmethod
    def parse(cls, text: str) -> "DatasetRef | None":
        """Return the reference written in `text`, or None when it is not one."""
        match = _REF.match(text)
        if match is None:
            return None
        version = match["version"]
        return cls(name=match["name"], version=int(version) if version else None, system=match["system"])

    def __str__(self) -> str:
        version = f"@{self.version}" if self.version else ""
        system = f"/{self.system}" if self.system else ""
        return f"dataset:{self.name}{version}{system}"


class SystemSummary(View):
    """One system (a fixed list of atoms and many frames of it)."""

    name: str
    atoms: int
    frames: int
    elements: dict[str, int] = Field(description="Atoms of each element.")
    type_map: list[str]
    mixed_type: bool = False
    periodic: bool = True
    labels: list[str] = Field(description="energy, force, virial, …: what every frame carries.")
    sets: list[str] = ["set.000"]


class Range(View):
    """Smallest and largest value seen."""

    low: float
    high: float


class Histogram(View):
    """How often values fall into each bin: `edges` has one more entry than `counts`."""

    edges: list[float]
    counts: list[int]


class TextFile(View):
    """One file of a text dataset: JSON lines, all of one form."""

    name: str = Field(description="As a reference names it: `dataset:NAME@VERSION/FILE.jsonl`.")
    form: Literal["text", "conversations"]
    entries: int = Field(description="Lines: documents or conversations.")
    turns: int = Field(default=0, description="Messages of all conversations.")
    characters: int = Field(description="Of texts and messages, without what JSON adds.")
    size: int = Field(description="Bytes of the file in its stored form.")
    samples: list[str] = Field(default=[], description="How its first lines begin, in their stored form.")


class TextSummary(View):
    """What is in a text dataset."""

    files: list[TextFile]
    documents: int
    conversations: int
    turns: int
    characters: int
    size: int
    lengths: Histogram = Field(description="Characters of a document or conversation; each bin twice the one before.")


class TokenizerSummary(View):
    """What a tokenizer is."""

    model: str = Field(description="Its kind, as the `tokenizers` library calls it: `BPE`.")
    vocab_size: int = Field(description="Tokens, the added ones included.")
    special_tokens: dict[str, int] = Field(description="Id of each.")
    roles: dict[str, str] = Field(
        default={}, description="The special token that is bos_token, eos_token, pad_token, …"
    )
    has_chat_template: bool
    marks_answers: bool = Field(
        default=True, description="Whether its conversations can be like ChatML: by that the answers in them are found."
    )
    digest: str = Field(description="SHA-256 over vocabulary, rules and chat template: equal ones encode alike.")


class Distances(View):
    """How near atoms come to each other, and how far one is from all others, in Å; images of periodic cells included."""

    cutoff: float = Field(description="So far was looked.")
    frames: int = Field(description="Frames that were looked at.")
    nearest: dict[str, float] = Field(
        description="By pair of elements, `H-O`: the smallest distance of any two. Absent: none within the cutoff."
    )
    farthest: dict[str, float | None] = Field(
        description="By element: the largest distance of an atom to the nearest other one; null: none within the cutoff."
    )
    atoms: dict[str, list[int]] = Field(
        default={}, description="Of a single structure: which atoms these are, by pair and by element."
    )


class StructureSummary(View):
    """One structure without labels, to be relaxed."""

    name: str = Field(description="As a reference names it: `dataset:NAME@VERSION/STRUCTURE`.")
    atoms: int
    formula: str
    elements: list[str]
    periodic: bool
    fixed: int = Field(default=0, description="Atoms that stay where they are.")
    findings: list[Finding] = Field(default=[], description="What is odd about it, whatever the model.")
    distances: Distances | None = Field(default=None, description="None: it came before they were measured.")


class DatasetSummary(View):
    """What is in a dataset, as its page shows it: systems of atoms, structures without labels, text, or a tokenizer.

    Energies in eV per atom, forces in eV/Å, virials in eV per atom.
    """

    systems: list[SystemSummary] = []
    frames: int = 0
    atoms: int = Field(default=0, description="Sum over systems of atoms times frames.")
    elements: list[str] = []
    type_map: list[str] = Field(
        default=[], description="Union of the systems' type maps, in order of first appearance."
    )
    energy_per_atom_ev: Range | None = None
    force_ev_per_angstrom: Range | None = Field(default=None, description="Range of force components.")
    virial_per_atom_ev: Range | None = None
    distances: dict[str, Distances] = Field(
        default={},
        description="By system, where there are not too many; those of all together under an empty name. Of frames "
        "evenly spread over the data. Empty: it came before they were measured.",
    )
    structures: list[StructureSummary] = []
    text: TextSummary | None = None
    tokenizer: TokenizerSummary | None = None
    extra: dict[str, Any] = {}


class DatasetHead(View):
    """One immutable version of a dataset, but for what is in it."""

    id: int
    name: str
    version: int
    engine: str
    digest: str = Field(
        description="SHA-256 over every file's path and SHA-256: the content, whatever the archive was."
    )
    size: int = Field(description="Bytes of the stored archive.")
    created_at: datetime
    source: str = Field(description="How it came: 'upload water.tar.gz', 'directory /data/water'.")
    warnings: list[str] = []


class DatasetView(DatasetHead):
    """One version with all that is in it."""

    summary: DatasetSummary
    usage: str = Field(default="", description="How a config of its engine names it, as a piece of JSON.")

    @property
    def ref(self) -> str:
        """How a config names this version."""
        return f"dataset:{self.name}@{self.version}"


class DatasetContents(View):
    """What is in a dataset, in numbers: those of the other kinds of data are 0."""

    elements: list[str] = []
    systems: int = 0
    frames: int = 0
    structures: int = Field(default=0, description="Without labels, to be relaxed.")
    files: int = Field(default=0, description="Of text.")
    documents: int = 0
    conversations: int = 0
    characters: int = 0
    tokenizer: str | None = Field(default=None, description="Its kind: `BPE`.")
    tokens: int = Field(default=0, description="Of the tokenizer.")


class DatasetListed(DatasetHead):
    """One version as a list shows it: its own address has the whole summary, which may be large."""

    contents: DatasetContents


class DatasetPage(View):
    """One page of a list; pass `next_cursor` as `cursor` for the next."""

    items: list[DatasetListed]
    next_cursor: str | None = None


class RegisterDirectory(Message):
    """Ask the server to take in a directory below one of its configured roots."""

    name: str = Field(pattern=NAME_PATTERN)
    path: str
    engine: str = Field(
        default="", description="Left out: the one that alone reads files of such a name; else the first."
    )
    type_map: list[str] | None = Field(default=None, description="Elements, for systems without type_map.raw.")
