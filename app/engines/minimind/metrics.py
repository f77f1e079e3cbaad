"""What a MiniMind training measures, as far as its resolved config tells, and the file of its learning curve."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from app.wire.metrics import MetricWords

Json = Any
Columns = Mapping[str, Sequence[float | None]]

WORDS = {
    "perplexity": MetricWords(title="Perplexity", short="PPL"),
    "aux_loss": MetricWords(title="Loss that balances the experts", short="aux"),
    "perf/tokens_per_s": MetricWords(title="Tokens", unit="1/s", short="tok/s"),
}

HEADLINE = ("train/loss", "val/loss", "val/perplexity", "train/perplexity", "perf/tokens_per_s", "lr")

CURVE = "loss.tsv"


def keys(config: Mapping[str, Json]) -> frozenset[str]:
    """Return every metric that a training of a resolved config may measure."""
    found = {"lr", "train/loss", "train/perplexity", "train/grad_norm", "perf/step_s", "perf/tokens_per_s"}
    if config["model"]["use_moe"]:
        found.add("train/aux_loss")
    if config["data"]["validation"] or config["data"]["validation_fraction"]:
        found |= {"val/loss", "val/perplexity"}
    return frozenset(found)


def lines(steps: Sequence[int], columns: Columns) -> Iterator[str]:
    """Yield a header, then a row for every step: what MiniMind prints now and then, and the loss on validation data.

    `loss` is what is minimised: the cross-entropy (`logits_loss`) and what balances the experts (`aux_loss`). A step
    at which something was not measured leaves its field empty.
    """
    yield "step\tloss\tlogits_loss\taux_loss\tlearning_rate\tval_loss\n"
    for row, step in enumerate(steps):
        logits, aux = _value(columns, "train/loss", row), _value(columns, "train/aux_loss", row)
        loss = None if logits is None else logits + (aux or 0.0)
        rest = (logits, aux, _value(columns, "lr", row), _value(columns, "val/loss", row))
        yield "\t".join([str(step), *(_cell(value) for value in (loss, *rest))]) + "\n"


def _value(columns: Columns, key: str, row: int) -> float | None:
    column = columns.get(key)
    return None if column is None else column[row]


def _cell(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.6g}" if math.isfinite(value) else str(value)
