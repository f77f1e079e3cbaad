"""Tiny MiniMind models, resolved as submissions are, and data for them."""

import json
import random
from copy import deepcopy

from app.engines.base import Base, DatasetFacts
from app.engines.minimind import ENGINE
from app.wire.datasets import Histogram, TextFile, TextSummary, TokenizerSummary
from app.wire.submission import Start
from worker.engines.minimind import errands

SPEC = {"engine": "minimind", "datasets": {"c@1": "c" * 64, "s@1": "s" * 64, "t@1": "t" * 64}}
WORDS = [
    "the",
    "a",
    "cat",
    "dog",
    "tree",
    "river",
    "sees",
    "finds",
    "likes",
    "old",
    "small",
    "green",
    "runs",
    "sleeps",
    "under",
    "over",
    "near",
    "stone",
    "bird",
    "house",
]
MODEL = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 300,
    "intermediate_size": 48,
}  # fmt: skip
MIXTURE = {"use_moe": True, "num_experts": 3, "num_experts_per_tok": 2, "moe_intermediate_size": 24}
LLAMA = {"family": "llama", "rms_norm_eps": 1e-5}


def write_data(root):
    """Write texts (c@1) and conversations (s@1)."""
    chooser = random.Random(0)
    texts = [{"text": _sentence(chooser, 4, 40)} for _ in range(150)]
    _write(root / "c@1" / "corpus.jsonl", texts)
    chats = [{"conversations": _chat(chooser, turns=chooser.randint(1, 2))} for _ in range(150)]
    _write(root / "s@1" / "chats.jsonl", chats)


def _sentence(chooser, low, high):
    return " ".join(chooser.choices(WORDS, k=chooser.randint(low, high))) + ". 你好"


def _chat(chooser, turns):
    messages = []
    for _ in range(turns):
        messages.append({"role": "user", "content": _sentence(chooser, 1, 6)})
        messages.append({"role": "assistant", "content": _sentence(chooser, 1, 8)})
    return messages


def _write(path, lines):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))


def make_config(stage="pretrain", *, model=None, data=None, tokenizer=None, sample=None, **training):
    """Return a submission that trains in milliseconds a step."""
    return {
        "stage": stage,
        "model": {**MODEL, "seed": 3, **(model or {})},
        "tokenizer": {"source": "train", **(tokenizer or {})},
        "data": {"train": ["dataset:c@1" if stage == "pretrain" else "dataset:s@1"], "validation_fraction": 0.1, **(data or {})},
        "training": {
            "max_steps": 11, "batch_size": 2, "accumulation_steps": 3, "max_seq_len": 48, "eval_interval": 4,
            "eval_batches": 2, "learning_rate": 1e-3, "sample": {"max_new_tokens": 4, **(sample or {})}, **training,
        },
    }  # fmt: skip


def resolved(config, *, start=None, base=None):
    """Return the resolved config of a submission."""
    answer = ENGINE.resolve(deepcopy(config), root_seed=1, datasets=_DATASETS, start=start or Start(), base=base)
    assert not answer.problems, answer.problems
    return answer.config


def _text(name, file, form):
    about = TextFile(name=file, form=form, entries=150, characters=10000, size=12000)
    lengths = Histogram(edges=[0, 128], counts=[150])
    text = TextSummary(
        files=[about], documents=150, conversations=0, turns=0, characters=10000, size=12000, lengths=lengths
    )
    return DatasetFacts(name, 1, name * 64, text=text)


_DATASETS = {
    f"dataset:{name}@1": facts
    for name, facts in (("c", _text("c", "corpus.jsonl", "text")), ("s", _text("s", "chats.jsonl", "conversations")))
}


def with_tokenizer(size, digest):
    """Return the facts of a dataset t@1 that holds a tokenizer."""
    summary = TokenizerSummary(model="BPE", vocab_size=size, special_tokens={}, has_chat_template=False, digest=digest)
    return DatasetFacts("t", 1, "t" * 64, tokenizer=summary)


def base_of(path, name="base@1"):
    """Return a file of weights as a base, looked into as an errand does."""
    return Base(name, "b" * 64, errands.inspect(path, path.name))


def start_from(file, config, **start):
    """Return config and spec of a training that starts from a file."""
    name = "base@1"
    start, base = Start(mode="init", base=name, **start), base_of(file, name)
    whole = resolved(config, start=start, base=base)
    plan = ENGINE.plan(whole, {}, start, base, errands.inventory(ENGINE.inventory_order(whole)))
    assert not isinstance(plan, list), plan
    given = {"name": name, "file_name": f"base{file.suffix}", "sha256": "b" * 64}
    return whole, {"start": start.model_dump(), "base": given, "plan": plan}
