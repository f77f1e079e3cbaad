"""Every key of a MiniMind config: its type, default, range and meaning. Schema, checks and defaults are made of this."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from app.engines.documents import parts
from app.wire.submission import MAX_SEED

Json = Any
Kind = Literal["integer", "number", "boolean", "text", "numbers", "datasets"]
"""numbers: a list of them. datasets: a list of texts, or one text."""

STAGES = ("pretrain", "sft")
FAMILIES = ("qwen3", "llama")
DTYPES = ("bfloat16", "float16", "float32")
ACTIVATIONS = ("silu", "gelu", "gelu_pytorch_tanh", "relu")

_MANY = 10**9
_MAX_STEPS = 10**12


@dataclass(frozen=True)
class Key:
    """What may stand at one place of a config."""

    kind: Kind
    default: Json
    doc: str
    low: float | None = None
    high: float | None = None
    above: float | None = None
    """A bound that itself is not allowed."""
    below: float | None = None
    choices: tuple[str, ...] = ()
    nullable: bool = False
    is_derived: bool = False
    """Left out, or null, it follows from other values; it has no default then."""
    length: int | None = None
    """Of a list of numbers."""


def _size(default: Json, doc: str, high: float = _MANY, low: float = 1) -> Key:
    is_derived = default is None
    return Key("integer", default, doc, low=low, high=high, nullable=is_derived, is_derived=is_derived)


def _seed(doc: str) -> Key:
    doc = f"{doc} Left out: derived from the job's seed."
    return Key("integer", None, doc, low=0, high=MAX_SEED, nullable=True, is_derived=True)


def _data(doc: str) -> Key:
    return Key(
        "datasets", [], f"{doc} By name: dataset:NAME, dataset:NAME@VERSION or dataset:NAME@VERSION/FILE.jsonl; a list "
        "of them or one. Without a version the newest is taken, without a file all of them.",
    )  # fmt: skip


KEYS: Mapping[str, Key] = {
    "/stage": Key(
        "text", "pretrain", "pretrain: every token of a text is learned. sft: only what the assistant says in a "
        "conversation is.", choices=STAGES,
    ),
    "/model/family": Key(
        "text", "qwen3", "qwen3: MiniMind's model, with norms of queries and keys. llama: without them, as older "
        "versions of MiniMind.", choices=FAMILIES,
    ),
    "/model/hidden_size": _size(768, "Width of the model: numbers that stand for a token between layers.", 2**16),
    "/model/num_hidden_layers": _size(8, "Number of layers.", 1024),
    "/model/num_attention_heads": _size(8, "Heads of each attention.", 1024),
    "/model/num_key_value_heads": _size(4, "Heads that keys and values have; queries share them in groups.", 1024),
    "/model/head_dim": _size(None, "Width of a head. Left out: hidden_size / num_attention_heads.", 2**16, low=2),
    "/model/intermediate_size": _size(
        None, "Width of the feed-forward layers. Left out: hidden_size times pi, rounded up to a multiple of 64.", 2**20
    ),
    "/model/vocab_size": _size(6400, "Number of tokens. With a tokenizer that is there: at least as many as it has.", 2**24, low=4),
    "/model/max_position_embeddings": _size(32768, "Longest sequence that the model is made for.", 2**24),
    "/model/rope_theta": Key("number", 1000000.0, "Base of the rotary position embedding.", above=0),
    "/model/rms_norm_eps": Key("number", 1e-6, "Added to the mean square in every norm.", above=0, high=1),
    "/model/hidden_act": Key("text", "silu", "Activation of the feed-forward layers.", choices=ACTIVATIONS),
    "/model/dropout": Key("number", 0.0, "Must be 0: the models of transformers have no such dropout.", low=0, below=1),
    "/model/tie_word_embeddings": Key("boolean", True, "Whether the output layer has the embedding's weights."),
    "/model/initializer_range": Key("number", 0.02, "Standard deviation of new weights.", above=0, high=10),
    "/model/use_moe": Key("boolean", False, "Whether each feed-forward layer is a mixture of experts."),
    "/model/num_experts": _size(4, "Experts of each mixture.", 4096),
    "/model/num_experts_per_tok": _size(1, "Experts that each token is sent to.", 4096),
    "/model/moe_intermediate_size": _size(None, "Width of an expert. Left out: intermediate_size.", 2**20),
    "/model/norm_topk_prob": Key("boolean", True, "Whether the chosen experts' weights are made to sum to 1."),
    "/model/router_aux_loss_coef": Key("number", 0.0005, "Weight of the loss that balances the experts.", low=0, high=1e6),
    "/model/seed": _seed("Decides the first weights."),
    "/tokenizer/source": Key(
        "text", "train", "train: byte-level BPE of vocab_size tokens, made of the training data. base: the base "
        "model's. dataset:NAME: a tokenizer.json that was added as a dataset.",
    ),
    "/tokenizer/digest": Key("text", None, "SHA-256 of a tokenizer that is there; filled in.", nullable=True, is_derived=True),
    "/data/train": _data("What is trained on."),
    "/data/validation": _data("What is only measured on."),
    "/data/validation_fraction": Key(
        "number", 0.0, "Share of the training data that is set aside for validation instead.", low=0, below=1
    ),
    "/data/seed": _seed("Decides the order of the data."),
    "/training/epochs": _size(2, "How often all training data are gone through.", 10**6),
    "/training/max_steps": Key(
        "integer", None, "Number of steps, each one batch; takes the place of epochs.", low=1, high=_MAX_STEPS,
        nullable=True,
    ),
    "/training/batch_size": _size(32, "Sequences in one step.", 10**6),
    "/training/accumulation_steps": _size(8, "Steps whose gradients are summed before the weights change.", 10**6),
    "/training/max_seq_len": _size(340, "Tokens in one sequence.", 2**24, low=2),
    "/training/learning_rate": Key("number", 5e-4, "Highest learning rate.", above=0, high=1e3),
    "/training/min_lr_ratio": Key("number", 0.1, "Share of it that is left at the end of the cosine.", low=0, high=1),
    "/training/warmup_steps": _size(0, "Steps over which it rises from 0.", _MAX_STEPS, low=0),
    "/training/weight_decay": Key("number", 0.01, "AdamW's.", low=0, high=1e3),
    "/training/betas": Key("numbers", [0.9, 0.999], "AdamW's two decay rates.", low=0, below=1, length=2),
    "/training/eps": Key("number", 1e-8, "AdamW's.", above=0, high=1),
    "/training/grad_clip": Key("number", 1.0, "Largest norm of the gradients; 0: they are not clipped.", low=0),
    "/training/dtype": Key(
        "text", "bfloat16", "What a GPU computes with; the weights themselves are float32.", choices=DTYPES
    ),
    "/training/eval_interval": _size(500, "Steps between validations.", _MAX_STEPS),
    "/training/eval_batches": _size(8, "Batches that a validation measures on.", 10**6),
    "/training/save_interval": _size(1000, "Steps between checkpoints.", _MAX_STEPS),
    "/training/seed": _seed("Decides what else is drawn while training."),
    "/training/sample/prompt": Key("text", "Once upon a time", "What a validation lets the model continue, or answer."),
    "/training/sample/max_new_tokens": _size(48, "Tokens it may say; 0: it is not asked.", 4096, low=0),
}  # fmt: skip

OF_SFT: Mapping[str, Json] = {
    "/training/batch_size": 16,
    "/training/accumulation_steps": 1,
    "/training/learning_rate": 1e-5,
    "/training/max_seq_len": 768,
    "/training/sample/prompt": "Who are you?",
}
"""Defaults of stage sft that are others (MiniMind's `train_full_sft.py`)."""

MODEL_DEFAULTS: Mapping[str, Json] = {
    at.removeprefix("/model/"): key.default
    for at, key in KEYS.items()
    if at.startswith("/model/") and not key.is_derived
}
"""Of a model section, without what is derived (`app.engines.minimind.model.completed`)."""


def defaults(stage: str) -> dict[str, Json]:
    """Return the default of every key that has one, for a stage, as a config."""
    special = OF_SFT if stage == "sft" else {}
    return nested({at: special.get(at, key.default) for at, key in KEYS.items() if not key.is_derived})


def nested(values: Mapping[str, Json]) -> dict[str, Json]:
    """Return a config of values by place, in the order of the keys."""
    document: dict[str, Json] = {}
    for at in sorted(values, key=list(KEYS).index):
        *path, last = parts(at)
        section = document
        for part in path:
            section = section.setdefault(part, {})
        section[last] = values[at]
    return document


def members(section: str) -> Iterator[str]:
    """Yield the names of a section's keys and of the sections in it: of `/training`, or of the whole (`""`)."""
    below = [at.removeprefix(section + "/") for at in KEYS if at.startswith(section + "/")]
    yield from dict.fromkeys(name.partition("/")[0] for name in below)


def is_section(at: str) -> bool:
    """Return whether a place holds keys of its own."""
    return any(key.startswith(at + "/") for key in KEYS)
