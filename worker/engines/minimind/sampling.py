"""Text that a model says, greedily: the same weights say the same, and no generator is drawn from."""

from typing import cast

import torch
from transformers import GenerationMixin, PreTrainedModel

from worker.engines.minimind.tokenizer import Tokenizer


@torch.no_grad()
def say(model: PreTrainedModel, tokenizer: Tokenizer, stage: str, prompt: str, tokens: int) -> str:
    """Return how a model goes on after a prompt (stage pretrain), or answers it (stage sft); at most so many tokens."""
    ids = _asked(tokenizer, stage, prompt)
    given = torch.tensor([ids], device=next(model.parameters()).device)
    found = cast("GenerationMixin", model).generate(
        given,
        attention_mask=torch.ones_like(given),
        max_new_tokens=tokens,
        do_sample=False,
        eos_token_id=tokenizer.eos,
        pad_token_id=tokenizer.pad,
    )
    return tokenizer.decode(found[0, len(ids) :].tolist())


def _asked(tokenizer: Tokenizer, stage: str, prompt: str) -> list[int]:
    if stage == "pretrain":
        before = [] if tokenizer.bos is None else [tokenizer.bos]
        # Something has to stand before the first token: without a prompt and a token that begins, the one that ends.
        return [*before, *tokenizer.encode([prompt])[0].ids] or [tokenizer.eos or 0]
    text = tokenizer.render([{"role": "user", "content": prompt}], asks=True)
    ids: list[int] = tokenizer.encode([text])[0].ids
    return ids
