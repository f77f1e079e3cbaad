"""What is the same for every tokenizer: MiniMind's special tokens, the chat template of those that bring none, the digest."""

import hashlib
import json

from app.engines.documents import canonical

PAD, BOS, EOS = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
"""MiniMind's special tokens; trained tokenizers have them as 0, 1 and 2."""

TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
"""ChatML: for tokenizers that bring no template of their own."""


def marks_answers(template: str | None) -> bool:
    """Return whether a chat template can write what answers are found by: they stand between BOS and EOS, as in ChatML."""
    return all(mark in (template or TEMPLATE) for mark in (BOS, EOS))


def digest(text: str, template: str | None) -> str:
    """Return SHA-256 over what decides the tokens of a text and of a conversation, whatever the layout of the file.

    `text` is the content of a tokenizer.json, `template` its own chat template if it has one.
    """
    return hashlib.sha256(f"{canonical(json.loads(text))}\0{template or TEMPLATE}".encode()).hexdigest()
