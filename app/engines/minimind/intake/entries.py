"""One line of text data: a document or a conversation, or what is wrong with it."""

import json
from dataclasses import dataclass, field
from typing import Any, Literal, NoReturn

Json = Any

ROLES = ("system", "user", "assistant", "tool")
SPECIAL = ("reasoning_content", "tools", "tool_calls")
"""Of a message beside its content: shown to a model by chat templates that know them."""

FORMS = 'Write {"text": "…"} or {"conversations": [{"role": "user", "content": "…"}, {"role": "assistant", "content": "…"}]}.'


class Wrong(Exception):
    """A line is none that a model could be trained on."""

    def __init__(self, code: str, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.code, self.message, self.hint = code, message, hint


@dataclass
class Entry:
    """A document or a conversation."""

    form: Literal["text", "conversations"]
    value: dict[str, Json]
    """What is kept of it."""
    characters: int
    turns: int = 0
    unknown: set[str] = field(default_factory=set)
    """Keys that mean nothing here."""
    special: set[str] = field(default_factory=set)
    """Those of SPECIAL that it has."""


def read_entry(line: bytes) -> Entry:
    """Return what a line holds. Raises Wrong."""
    value = _parsed(line)
    if not isinstance(value, dict):
        raise Wrong("not-an-object", f"holds {_kind(value)}, not a JSON object", FORMS)
    forms = [form for form in ("text", "conversations") if form in value]
    if len(forms) == 2:
        raise Wrong("mixed-forms", 'has both "text" and "conversations"', "Leave one of them out.")
    if not forms:
        raise Wrong("no-text", f'has neither "text" nor "conversations": {_keys(value)}', FORMS)
    entry = _document(value["text"]) if forms == ["text"] else _conversation(value["conversations"])
    entry.unknown |= value.keys() - set(forms)
    return entry


def _keys(value: dict[str, Json]) -> str:
    return f"it has {', '.join(repr(key) for key in list(value)[:5])}" if value else "it is empty"


def _parsed(line: bytes) -> Json:
    try:
        return json.loads(line.decode(), object_pairs_hook=_object, parse_constant=_constant)
    except UnicodeDecodeError as error:
        message = f"is not UTF-8 (byte {error.start + 1} of the line is 0x{line[error.start]:02x})"
        raise Wrong("not-utf8", message, "Convert the file: iconv -f … -t UTF-8.") from error
    except json.JSONDecodeError as error:
        hint = "Write one whole JSON object on each line."
        raise Wrong("bad-json", f"is no JSON: {error.msg} (character {error.colno})", hint) from error
    except (ValueError, RecursionError) as error:  # a number of thousands of digits; thousands of brackets
        raise Wrong("bad-json", f"cannot be read: {error}", "Write one JSON object on each line.") from error


def _object(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise Wrong("duplicate-key", f"has the key {twice!r} twice in one object", "Leave one of them out.")
    return found


def _constant(text: str) -> NoReturn:
    raise Wrong("bad-json", f"has {text}, which JSON does not have", "Write null or a number.")


def _document(text: Json) -> Entry:
    checked = _checked(text, '"text"')
    if not checked.strip():
        raise Wrong("empty-text", 'has an empty "text"', "Leave the line out.")
    return Entry("text", {"text": checked}, len(checked))


def _checked(text: Json, called: str) -> str:
    if not isinstance(text, str):
        raise Wrong("not-a-text", f"has {_kind(text)} as {called}, not a text", FORMS)
    try:
        text.encode()
    except UnicodeEncodeError as error:
        what = f"has half a surrogate pair (\\u{ord(text[error.start]):04x}) in {called}"
        raise Wrong("broken-text", what, "Write the whole character, or leave it out.") from error
    return text


def _conversation(messages: Json) -> Entry:
    if not isinstance(messages, list) or not messages:
        found = _kind(messages) if messages != [] else "nothing"
        raise Wrong("not-a-conversation", f'has {found} as "conversations", not a list of messages', FORMS)
    entry = Entry("conversations", {}, 0, turns=len(messages))
    entry.value["conversations"] = [_message(message, at, entry) for at, message in enumerate(messages, start=1)]
    if not any(message["role"] == "assistant" for message in entry.value["conversations"]):
        hint = 'Only what an "assistant" says is learned: add an answer, or leave the line out.'
        raise Wrong("no-answer", "is a conversation in which no assistant answers", hint)
    return entry


def _message(message: Json, at: int, entry: Entry) -> dict[str, Json]:
    if not isinstance(message, dict):
        raise Wrong("not-a-message", f"message {at} is {_kind(message)}, not an object", FORMS)
    role = message.get("role")
    if role not in ROLES:
        given = f"the role {role!r}" if isinstance(role, str) else "no role"
        raise Wrong("unknown-role", f"message {at} has {given}", f"Roles are {', '.join(ROLES)}.")
    special = {key: _plain(message[key], at, key) for key in SPECIAL if message.get(key) not in (None, "", [])}
    content = _checked("" if message.get("content") is None else message["content"], f'the "content" of message {at}')
    if not content.strip() and not special and role != "system":
        raise Wrong("empty-text", f'message {at} ({role}) has an empty "content"', "Leave the conversation out.")
    entry.unknown |= {key for key in message if key not in ("role", "content", *SPECIAL)}
    entry.special |= special.keys()
    entry.characters += len(content)
    return {"role": role, "content": content, **special}


def _plain(value: Json, at: int, key: str) -> Json:
    """Return what is beside a message's content, once it is certain that it can be written again."""
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    except ValueError as error:
        raise Wrong("bad-json", f"has a number in {key!r} of message {at} that is too large", None) from error
    _checked(text, f"{key!r} of message {at}")
    return value


def _kind(value: Json) -> str:
    if value is None:
        return "null"
    kinds = {
        bool: "true or false",
        str: "a text",
        int: "a number",
        float: "a number",
        list: "a list",
        dict: "an object",
    }
    return kinds[type(value)]
