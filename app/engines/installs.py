"""What of each engine must be installed where it trains. Imports nothing: `cairn doctor` asks on the lightest install, too."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Install:
    """The torch half of an engine, as it is installed."""

    extra: str
    """Of the package `cairn`; the engine's name."""
    needs: tuple[str, ...]
    """Packages that are all there only where somebody wanted this engine to train."""
    name: str
    """What its trainers import first, in a word."""
    imports: str
    """The statement that does so."""
    version: str
    """The expression that then tells the library's version."""


INSTALLS = (
    Install("deepmd", ("deepmd-kit", "torch"), "deepmd.pt", "import deepmd.pt", "deepmd.__version__"),
    Install(
        "minimind",
        ("transformers", "torch"),
        "transformers",
        "import transformers, transformers.models.qwen3.modeling_qwen3, tokenizers, safetensors.torch",
        "transformers.__version__",
    ),
)
