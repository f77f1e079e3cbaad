"""Tokenizers: trained on data, or read from files; and conversations as text, in ChatML."""

import json
import re
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import tokenizers
from jinja2 import TemplateError
from tokenizers import decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from app.engines.minimind.tokenizer import BOS, EOS, PAD, TEMPLATE, digest
from worker.engines.base import RefusedFile
from worker.engines.minimind.corpus import Corpus, Message, draw, texts
from worker.failures import TrainingFailure

Json = Any

_JSON = ("tools", "tool_calls")
"""Keys of a message that MiniMind's data have as JSON inside of a text."""
_ANSWER = re.compile(rf"{re.escape(BOS)}assistant\n(.*?{re.escape(EOS)})", re.DOTALL)
_TRAINED_ON_BYTES = 256 << 20
"""Of larger data only a sample of documents is counted for a tokenizer: as good, and its memory has a limit."""
_FEW = 64
_HEED_S = 0.2


@dataclass(frozen=True)
class Tokenizer:
    """A tokenizer as files have it; two with the same digest do the same."""

    json: str
    """The content of its tokenizer.json."""
    config: dict[str, Json]
    """The content of its tokenizer_config.json, `chat_template` included where it has one."""

    @cached_property
    def core(self) -> tokenizers.Tokenizer:
        """The library's own object."""
        return tokenizers.Tokenizer.from_str(self.json)

    @cached_property
    def _chat(self) -> PreTrainedTokenizerFast:
        return PreTrainedTokenizerFast(tokenizer_object=self.core, chat_template=self.template)  # type: ignore[no-untyped-call]

    @property
    def template(self) -> str:
        """The chat template: its own, or ChatML."""
        own = self.config.get("chat_template")
        return own if isinstance(own, str) else TEMPLATE

    @property
    def digest(self) -> str:
        """SHA-256 over what decides the tokens of a text and of a conversation."""
        return digest(self.json, self.template)

    @property
    def size(self) -> int:
        """Number of rows that an embedding needs for it: the largest id and one."""
        return max(self.core.get_vocab(with_added_tokens=True).values(), default=-1) + 1

    @property
    def bos(self) -> int | None:
        """The id that a document begins with; None: it has no such token."""
        return self._special("bos_token", BOS)

    @property
    def eos(self) -> int | None:
        """The id that a document ends with."""
        return self._special("eos_token", EOS)

    @property
    def pad(self) -> int:
        """The id that fills the ends of rows; nothing is learned from it."""
        found = self._special("pad_token", PAD)
        return found if found is not None else 0

    @property
    def can_converse(self) -> bool:
        """Whether conversations can be written with it: by a template of its own, or by ChatML, which needs two tokens."""
        has_tokens = all(self.core.token_to_id(token) is not None for token in (BOS, EOS))
        return has_tokens or isinstance(self.config.get("chat_template"), str)

    def _special(self, key: str, usual: str) -> int | None:
        named = self.config.get(key, usual)
        text = named.get("content") if isinstance(named, dict) else named
        found: int | None = self.core.token_to_id(text if isinstance(text, str) else usual)
        return found

    def render(self, messages: Sequence[Message], *, asks: bool = False) -> str:
        """Return a conversation as text; `asks`: up to where the assistant shall speak."""
        told = [{key: _parsed(value) if key in _JSON else value for key, value in one.items()} for one in messages]
        tools = next((one["tools"] for one in told if one.get("tools")), None)
        try:
            text = self._chat.apply_chat_template(told, tools=tools, tokenize=False, add_generation_prompt=asks)
        except (TemplateError, TypeError) as error:
            shown = json.dumps(told, ensure_ascii=False)[:200]
            message = f"The tokenizer's chat template does not take a conversation: {error}. It begins {shown}"
            hint = "Leave such conversations out, or use a tokenizer with another chat_template."
            raise TrainingFailure("data", message, hint=hint) from error
        assert isinstance(text, str)
        return text

    def encode(self, batch: Sequence[str]) -> list[tokenizers.Encoding]:
        """Return the tokens of texts, none added. Uses several threads."""
        found: list[tokenizers.Encoding] = self.core.encode_batch(list(batch), add_special_tokens=False)
        return found

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of tokens, special ones left out."""
        text: str = self.core.decode(list(ids), skip_special_tokens=True)
        return text

    def files(self) -> dict[str, str]:
        """Return what a Hugging Face directory holds of it, by file name."""
        config = {
            "bos_token": BOS,
            "eos_token": EOS,
            "pad_token": PAD,
            "unk_token": PAD,
            "add_bos_token": False,
            "add_eos_token": False,
            "clean_up_tokenization_spaces": False,
            "tokenizer_class": "PreTrainedTokenizerFast",
            **self.config,
            "chat_template": self.template,
        }
        text = json.dumps(config, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
        return {"tokenizer.json": self.json, "tokenizer_config.json": text}


def _parsed(value: Json) -> Json:
    try:
        return json.loads(value) if isinstance(value, str) else value
    except ValueError:
        return value


def answers(text: str) -> Iterator[tuple[int, int]]:
    """Yield where the assistant speaks in a rendered conversation, up to and with the token that ends it."""
    yield from (match.span(1) for match in _ANSWER.finditer(text))


def read(text: str, config: Json) -> Tokenizer:
    """Return the tokenizer of two files' contents.

    Raises:
        RefusedFile: It is none, or lacks the token that ends documents.
    """
    try:
        found = Tokenizer(text, dict(config))
        has_end = found.eos is not None
    except Exception as error:  # the library raises bare Exceptions of its own making
        raise RefusedFile(f"Its tokenizer.json is none that can be read: {error}") from error
    if not has_end:
        raise RefusedFile(f"Its tokenizer has no token {EOS}, and names no other eos_token that it has.")
    return found


def train(corpus: Corpus, vocab_size: int) -> Tokenizer:
    """Train a byte-level BPE on documents; the same documents give the same tokenizer, whatever the machine.

    Raises:
        TrainingFailure: There are fewer tokens to be had than bytes need.
    """
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    least = len(alphabet) + 3
    if vocab_size < least:
        message = f"A byte-level tokenizer needs at least {least} tokens, and model.vocab_size is {vocab_size}."
        raise TrainingFailure(
            "configuration", message, hint="Raise model.vocab_size, or use a tokenizer that is there."
        )
    core = tokenizers.Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size, special_tokens=[PAD, BOS, EOS], initial_alphabet=alphabet, show_progress=False
    )
    _heeding(lambda: core.train_from_iterator(_batched(_sampled(corpus)), trainer=trainer), corpus.heed)
    return Tokenizer(core.to_str(), {})


def _heeding(work: Callable[[], None], heed: Callable[[], None]) -> None:
    """Do what a library does in one call of minutes, and ask meanwhile whether to go on: signals come to this thread alone.

    Work that nobody waits for any more ends with the process.
    """
    failed: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - raised by the thread that waits
            failed.append(error)

    thread = threading.Thread(target=run, name="tokenizer", daemon=True)
    thread.start()
    while thread.is_alive():
        heed()
        thread.join(_HEED_S)
    if failed:
        raise failed[0]


def _sampled(corpus: Corpus) -> Iterator[str]:
    share = min(1.0, _TRAINED_ON_BYTES / max(corpus.size, 1))
    for document, _ in corpus.documents():
        if share == 1.0 or draw(document, "tokenizer") < share:
            yield from texts(document)


def _batched(found: Iterable[str]) -> Iterator[list[str]]:
    batch: list[str] = []
    for text in found:
        batch.append(text)
        if len(batch) == _FEW:
            yield batch
            batch = []
    yield batch
