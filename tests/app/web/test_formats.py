"""Formats: numbers, sizes, durations and documents as people read them."""

import html
import json
import math

import pytest

from app.engines import registry
from app.web import formats, words
from app.web.render import environment


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        (0.0, "0"),
        (0.045678, "0.04568"),
        (0.001, "0.001"),
        (0.00099, "9.9e-4"),
        (1e-4, "1e-4"),
        (-3.456e-7, "-3.46e-7"),
        (99999.0, "1e+05"),
        (123456.0, "1.23e5"),
        (math.nan, "nan"),
        (-math.inf, "-inf"),
    ],
)
def test_a_number_has_four_significant_digits(value: float | None, text: str) -> None:
    assert formats.significant(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (10 * 2**20, "10 MiB"), (3 * 2**40, "3.0 TiB")],
)
def test_a_size_is_in_binary_units(value: int, text: str) -> None:
    assert formats.size(value) == text


@pytest.mark.parametrize(
    ("part", "whole", "text"),
    [(0, 0, "–"), (0, 9, "0 %"), (9, 9, "100 %"), (99_999, 100_000, "99.9 %"), (1, 3, "33.3 %")],
)
def test_only_all_of_it_is_a_hundred_per_cent(part: int, whole: int, text: str) -> None:
    assert formats.share(part, whole) == text


@pytest.mark.parametrize(("value", "text"), [([], "scalar"), ([3], "3"), ([2, -1], "2 × ?")])
def test_a_shape_says_what_is_not_known_yet(value: list[int], text: str) -> None:
    assert formats.shape(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, "–"), (-4, "0 s"), (59.4, "59 s"), (59.6, "1 min 00 s"), (3725, "1 h 02 min"), (200_000, "2 d 7 h")],
)
def test_a_duration_has_its_two_largest_units(seconds: float | None, text: str) -> None:
    assert formats.duration(seconds) == text


def test_a_document_is_indented_with_plain_lists_on_one_line() -> None:
    value = {"a": [1, 2, 3], "b": {"c": [{"d": "é"}], "e": {}}, "f": []}
    text = formats.document(value)
    assert json.loads(text) == value
    assert '"a": [1, 2, 3],' in text
    assert '                "d": "é"' in text


@pytest.mark.parametrize(
    ("summary", "headline", "particulars"),
    [
        ("identical so far (1,240 steps)", "identical so far (1,240 steps)", ""),
        ("identical: 5,000 steps, 12 checkpoints", "identical", "5,000 steps, 12 checkpoints"),
        ("diverged at step 7: lr is 1 in job 1; more: text", "diverged at step 7", "lr is 1 in job 1; more: text"),
        ("identical in the 9 steps; job 1 failed", "identical in the 9 steps", "job 1 failed"),
    ],
)
def test_a_summary_has_a_headline(summary: str, headline: str, particulars: str) -> None:
    assert (formats.headline(summary), formats.particulars(summary)) == (headline, particulars)


def test_backticks_become_code_and_nothing_else_becomes_html() -> None:
    assert formats.ticks("run `cairn <ls>` & wait") == "run <code>cairn &lt;ls&gt;</code> &amp; wait"
    assert formats.ticks("a lone ` stays <b>") == "a lone ` stays &lt;b&gt;"


def test_a_nested_document_becomes_paths() -> None:
    assert formats.flat({"a": {"b": 1}, "c": [{"d": "x"}], "e": [1, 2], "f": {}}) == [
        ("a.b", "1"),
        ("c[0].d", "x"),
        ("e", "[1, 2]"),
        ("f", "{}"),
    ]


@pytest.mark.parametrize("engine", [engine.name for engine in registry.ENGINES])
def test_charts_come_in_the_order_of_their_words(engine):
    """The browser takes the order of a page's JSON for that of the charts: sorted, gradients would stand before losses."""
    ordered = words.panels(engine, ["train/grad_norm", "train/loss", "lr"])
    written = json.loads(html.unescape(environment().from_string("{{ found|tojson }}").render(found=ordered)))
    assert list(written) == list(ordered)
    assert next(iter(written)) == "loss"
