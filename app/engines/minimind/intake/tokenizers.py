"""A tokenizer that was sent: a tokenizer.json, and what stands beside it, checked with the library that will use it."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from app.engines.intake.report import Report, refuse
from app.engines.minimind.tokenizer import BOS, EOS, PAD, digest, marks_answers
from app.wire.datasets import DatasetSummary, TokenizerSummary

Json = Any

MAX_BYTES = 64 << 20
"""Of a file: the largest tokenizers in use have 20 MB."""

PROBE = "The quick brown fox, 你好, 0.5 Å\n\tif x: return"
"""Has to come out of a tokenizer as something: letters, other scripts, digits, blanks."""

_CONFIG, _TEMPLATE = "tokenizer_config.json", "chat_template.jinja"
_ROLES = {"bos_token": BOS, "eos_token": EOS, "pad_token": PAD}
_GENERATION = re.compile(r"\{%-?\s*(end)?generation\s*-?%\}")
"""A mark in chat templates for those who train; not Jinja's own."""


def take_in(found: Mapping[str, Path], kept: Path, report: Report) -> DatasetSummary:
    """Check a tokenizer and write its files below `kept`; return its summary. Raises Refused."""
    places = [name for name in found if name.rsplit("/", 1)[-1] == "tokenizer.json"]
    if len(places) > 1:
        raise refuse("several-tokenizers", f"There are several: {', '.join(places[:5])}.", "Send each by itself.")
    text = [name for name in found if name.endswith((".jsonl", ".jsonl.gz", ".jsonl.zst", ".jsonl.xz"))]
    if text:
        what = f"There are a tokenizer and lines of text ({', '.join(text[:3])}) in one upload."
        raise refuse("mixed-dataset", what, "Send them as two datasets.")
    root = found[places[0]].parent
    document = _object(root / "tokenizer.json")
    config = _object(root / _CONFIG) if (root / _CONFIG).is_file() else {}
    if (root / _TEMPLATE).is_file():
        config["chat_template"] = (root / _TEMPLATE).read_bytes()[:MAX_BYTES].decode("utf-8", "replace")
    _clean(document, report)
    canonical = _write(document, kept / "tokenizer.json")
    if config:
        _write(config, kept / _CONFIG)
    return DatasetSummary(tokenizer=_checked(canonical, document, config, report))


def _object(path: Path) -> dict[str, Json]:
    if path.stat().st_size > MAX_BYTES:
        raise refuse("not-a-tokenizer", f"{path.name} is larger than {MAX_BYTES >> 20} MiB: no tokenizer is.")
    try:
        value = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise refuse("bad-json", f"{path.name} is no JSON: {error}.", "Save it again with the library.") from error
    if not isinstance(value, dict):
        raise refuse("not-a-tokenizer", f"{path.name} holds no JSON object.", "Save it again with the library.")
    return value


def _clean(document: dict[str, Json], report: Report) -> None:
    """Take out what would cut or fill every text that is encoded."""
    for key in ("truncation", "padding"):
        if document.get(key) is not None:
            report.warn(f"tokenizer.json: its {key} is left out; max_seq_len of a training decides.")
            document[key] = None


def _write(value: Json, path: Path) -> str:
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    return text


def _checked(text: str, document: Json, config: Mapping[str, Json], report: Report) -> TokenizerSummary:
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_str(text)
        is_empty = not tokenizer.encode(PROBE, add_special_tokens=False).ids
    except Exception as error:  # the library raises bare Exceptions of its own making
        message = f"tokenizer.json cannot be loaded: {str(error)[:300]}."
        raise refuse("not-a-tokenizer", message, "Save it with `Tokenizer.save` or `save_pretrained`.") from error
    if is_empty:
        report.problem("empty-vocabulary", "tokenizer.json turns text into nothing.", "Send one that was trained.")
    roles = _roles(tokenizer, config, report)
    added = tokenizer.get_added_tokens_decoder()
    template = _template(config, report)
    return TokenizerSummary(
        model=str(document["model"].get("type", "")),
        vocab_size=1 + max(tokenizer.get_vocab(with_added_tokens=True).values(), default=-1),
        special_tokens={token.content: number for number, token in sorted(added.items()) if token.special},
        roles=roles,
        has_chat_template=template is not None,
        marks_answers=marks_answers(template),
        digest=digest(text, template),
    )


def _roles(tokenizer: Any, config: Mapping[str, Json], report: Report) -> dict[str, str]:
    """Return which token begins, ends and fills; what is said of them must be so. One that ends is needed."""
    roles = {}
    for role, usual in _ROLES.items():
        named = config.get(role)
        token = named.get("content") if isinstance(named, dict) else named
        if isinstance(token, str) and tokenizer.token_to_id(token) is None:
            report.problem(
                "unknown-token",
                f"{_CONFIG}: {role} is {token!r}, which tokenizer.json does not have.",
                "Add the token.",
            )
        token = token if isinstance(token, str) else usual
        if tokenizer.token_to_id(token) is not None:
            roles[role] = token
    if "eos_token" not in roles and not report.problems:
        message = f"tokenizer.json has no {EOS}, and no {_CONFIG} names another eos_token."
        report.problem("no-end-token", message, "Add a tokenizer_config.json that names the token that ends a text.")
    return roles


def _template(config: Mapping[str, Json], report: Report) -> str | None:
    """Return the chat template, if there is one. Its syntax is checked; it is run only by trainings."""
    from jinja2 import TemplateSyntaxError
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    template = config.get("chat_template")
    if template is None:
        return None
    if not isinstance(template, str):
        report.problem(
            "bad-template", f"{_CONFIG}: chat_template is not one text.", "Leave one template there: the one for chats."
        )
        return None
    try:
        environment = ImmutableSandboxedEnvironment(extensions=["jinja2.ext.loopcontrols"])
        environment.parse(_GENERATION.sub("", template))
    except TemplateSyntaxError as error:
        report.problem("bad-template", f"{_CONFIG}: chat_template, line {error.lineno}: {error.message}.")
    return template
