"""The learning rate of every step: a linear rise, then a cosine."""

import math
from collections.abc import Mapping
from typing import Any


def learning_rate(training: Mapping[str, Any], step: int, total_steps: int) -> float:
    """Return the learning rate of step 1, 2, …, `total_steps` under a resolved training section.

    Without warm-up that is MiniMind's (`get_lr` of `trainer/trainer_utils.py`): a cosine from the highest rate, before
    step 1, to `min_lr_ratio` of it at the last step. With one, the cosine spans the steps after it.
    """
    peak, floor, warmup = training["learning_rate"], training["min_lr_ratio"], training["warmup_steps"]
    if step < warmup:
        return float(peak * step / warmup)
    progress = (step - warmup) / max(total_steps - warmup, 1)
    return float(peak * (floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * progress))))
