"""Reading JSON files: what is wrong is shown where it stands."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.cli.document import apply_settings, escape, parse, read
from app.cli.failures import FAILED, USAGE, Failure
from app.cli.places import Place, excerpt, place_of


@pytest.mark.parametrize(
    ("text", "line", "column", "hint"),
    [
        pytest.param('{\n  "a": 1,\n}', 3, 1, "comma", id="comma after the last entry"),
        pytest.param('{\n  "a": 1\n  "b": 2\n}', 3, 3, None, id="missing comma"),
        pytest.param("{'a': 1}", 1, 2, "double quotes", id="single quotes"),
        pytest.param('{"a": 1, // why\n "b": 2}', 1, 10, "_comment", id="comment"),
        pytest.param('{"a": [1, 2', 1, 12, None, id="cut off"),
        pytest.param('{"a": NaN}', 1, 7, "finite", id="not a number"),
        pytest.param('{\n "a": {"b": 1,\n "b": 2}}', 3, 2, "Remove", id="key twice"),
    ],
)
def test_a_mistake_is_shown_with_line_column_and_caret(text: str, line: int, column: int, hint: str | None) -> None:
    with pytest.raises(Failure) as caught:
        parse(text, "input.json")
    (fault,) = caught.value.faults
    assert caught.value.exit_code == FAILED
    assert fault.code == "invalid-json"
    assert f"input.json is not valid JSON, line {line} column {column}" in fault.message
    shown, caret = fault.message.splitlines()[-2:]
    assert shown.endswith(text.splitlines()[line - 1])
    assert caret.index("^") == shown.index("|") + 1 + column
    assert hint is None or hint in (fault.hint or "")


def test_a_minified_file_is_shown_around_the_place() -> None:
    text = '{"a": [' + "1, " * 5000 + "x" + ", 1" * 5000 + "]}"
    lines = excerpt(text, place_of(text, text.index("x")))
    assert all(len(line) < 140 for line in lines)
    assert lines[0][lines[1].index("^")] == "x"


@pytest.mark.parametrize("text", ["[1, 2]", '"input"', "3", "null", "true"])
def test_only_an_object_is_an_input(text: str) -> None:
    with pytest.raises(Failure, match="not a JSON object"):
        parse(text, "input.json")


def test_nesting_without_end_is_refused() -> None:
    with pytest.raises(Failure, match="nested"):
        parse('{"a":' + "[" * 100_000 + "]" * 100_000 + "}", "input.json")


def test_a_file_that_is_not_there_or_no_text_is_named(tmp_path: Path) -> None:
    with pytest.raises(Failure, match="cannot be read: No such file") as caught:
        read(str(tmp_path / "none.json"))
    assert caught.value.exit_code == USAGE
    (tmp_path / "model.pt").write_bytes(b"PK\x03\x04\xff\xfe")
    with pytest.raises(Failure, match="not UTF-8"):
        read(str(tmp_path / "model.pt"))


def test_a_byte_order_mark_is_no_mistake(tmp_path: Path) -> None:
    (tmp_path / "input.json").write_bytes(b'\xef\xbb\xbf{"a": 1}')
    assert read(str(tmp_path / "input.json")).value == {"a": 1}


def test_a_pointer_finds_its_line_or_that_of_what_encloses_it() -> None:
    document = parse('{\n  "a": {\n    "b/c": [10,\n 20]\n  }\n}', "input.json")
    assert document.place("/a/b~1c/1") == Place(4, 2)
    assert document.place("/a/missing/deeper") == Place(2, 3)
    assert document.place("/nowhere") is None
    assert document.place("") is None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


def _pointers(value: Any, pointer: str = "") -> set[str]:
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    found = {pointer}
    for key, child in children:
        found |= _pointers(child, f"{pointer}/{escape(str(key))}")
    return found


@given(st.dictionaries(st.text(), JSON), st.sampled_from([None, 1, "\t"]))
def test_every_part_of_every_document_has_a_place(value: dict[str, Any], indent: Any) -> None:
    document = parse(json.dumps(value, indent=indent, ensure_ascii=False), "x")
    assert document.value == value
    assert set(document.offsets) == _pointers(value) - {""}


def test_settings_override_values_and_say_so() -> None:
    document = parse('{"training": {"numb_steps": 10, "systems": ["a", "b"]}}', "x")
    apply_settings(
        document, ["training.numb_steps=20", "training.systems.1=c", "model.descriptor.type=se_e2_a", "lr.on=true"]
    )
    assert document.value == {
        "training": {"numb_steps": 20, "systems": ["a", "c"]},
        "model": {"descriptor": {"type": "se_e2_a"}},
        "lr": {"on": True},
    }
    assert document.override("/config/training/numb_steps") == "--set training.numb_steps=20"
    assert document.override("/config/training") is None


@pytest.mark.parametrize(
    "setting",
    ["training", "=1", "a..b=1", "training.numb_steps.deeper=1", "training.systems.7=x", "training.systems.x=1"],
)
def test_a_setting_that_leads_nowhere_is_wrong_usage(setting: str) -> None:
    document = parse('{"training": {"numb_steps": 10, "systems": ["a"]}}', "x")
    with pytest.raises(Failure, match="--set") as caught:
        apply_settings(document, [setting])
    assert caught.value.exit_code == USAGE
