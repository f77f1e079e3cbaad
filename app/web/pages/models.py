"""Base models: the list with its upload form, and one version."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from app.web.pages.base import Page
from app.web.tensors import ComponentCount, TensorRow
from app.web.tree import Row
from app.wire.models import BranchFacts, ModelDetail, ModelView
from app.wire.system import EngineView


@dataclass(frozen=True)
class ModelsPage(Page):
    """The base models of this server."""

    template: ClassVar[str] = "models.html"
    section: ClassVar[str] = "models"
    script: ClassVar[str] = "upload"

    models: Sequence[ModelView]
    """The versions of this page of the list, newest first."""
    engines: Sequence[EngineView]
    """Every engine there is."""
    older: str | None
    """Address of the next page, if there is one."""
    max_upload_bytes: int
    """Largest upload the server accepts."""

    @property
    def title(self) -> str:
        """Return what stands in the browser's tab."""
        return "Base models"

    @property
    def has_types(self) -> bool:
        """Return whether any of these models has a type map."""
        return any(model.type_map for model in self.models)

    @property
    def inspecting(self) -> bool:
        """Return whether a state on this page will change by itself."""
        return any(model.state == "inspecting" for model in self.models)


@dataclass(frozen=True)
class Architecture:
    """One branch of a base model, its model section as the lines of a table."""

    branch: BranchFacts
    """What the inspection found."""
    rows: Sequence[Row]
    """The model section, a line per value."""


@dataclass(frozen=True)
class ModelPage(Page):
    """One version of a base model."""

    template: ClassVar[str] = "model.html"
    section: ClassVar[str] = "models"
    script: ClassVar[str] = "model"

    model: ModelDetail
    """The version."""
    versions: Sequence[int]
    """All versions of that name, newest first."""
    architectures: Sequence[Architecture]
    """Its branches; none while it is inspected."""
    tensors: Sequence[TensorRow]
    """Its tensors, a line per memory."""
    components: Sequence[ComponentCount]
    """What each part of it holds."""

    @property
    def title(self) -> str:
        """Return what stands in the browser's tab."""
        return self.model.ref

    @property
    def commands(self) -> Sequence[tuple[str, str]]:
        """Return what to type for what, in a terminal."""
        ref = self.model.ref
        return (
            ("Show it", f"cairn model show {ref}"),
            ("Download the file", f"cairn model download {ref}"),
            ("Check a config against it", f"cairn check input.json --base {ref} --mode finetune"),
            ("Fine-tune it", f"cairn submit input.json --base {ref} --mode finetune"),
        )
