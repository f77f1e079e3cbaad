"""The configuration table, histograms, and the words for metrics."""

from app.web import tree, words
from app.web.histograms import HEIGHT, draw
from app.wire.metrics import panel_of
from app.wire.resolution import Origin


def test_a_config_becomes_a_line_per_value_in_its_own_order() -> None:
    config = {"model": {"rcut": 6.0, "sel": [46, 92]}, "systems": [{"a/b": 1}]}
    origins = {
        "/model/rcut": Origin(origin="explicit"),
        "/model/sel": Origin(origin="derived"),
        "/systems/0/a~1b": Origin(origin="default"),
    }
    lines = tree.rows(config, origins)
    assert [(line.pointer, line.depth, line.section, line.value) for line in lines] == [
        ("/model", 0, True, None),
        ("/model/rcut", 1, False, 6.0),
        ("/model/sel", 1, False, [46, 92]),
        ("/systems", 0, True, None),
        ("/systems/0", 1, True, None),
        ("/systems/0/a~1b", 2, False, 1),
    ]
    assert all(line.origin is origins.get(line.pointer) for line in lines)
    assert tree.counts({**origins, "/x": Origin(origin="default")}) == {"default": 2, "explicit": 1, "derived": 1}


def test_a_value_without_origin_is_shown_all_the_same() -> None:
    (line,) = tree.rows({"a": 1}, {})
    assert (line.value, line.origin, line.section) == (1, None, False)


def test_a_list_of_plain_values_takes_one_line_unless_its_parts_have_origins() -> None:
    config = {"neuron": [25, 50], "systems": ["a", "b"], "hybrid": [{"rcut": 6.0}], "empty": {}}
    origins = {f"/systems/{index}": Origin(origin="explicit") for index in range(2)}
    lines = [(line.pointer, line.section) for line in tree.rows(config, origins)]
    assert lines == [
        ("/neuron", False),
        ("/systems", True),
        ("/systems/0", False),
        ("/systems/1", False),
        ("/hybrid", True),
        ("/hybrid/0", True),
        ("/hybrid/0/rcut", False),
        ("/empty", False),
    ]


def test_a_histogram_shows_even_a_single_value_among_millions() -> None:
    drawn = draw("force", "Force", "eV/Å", {"counts": [4_000_000, 0, 1], "edges": [0.0, 1.0, 2.0, 3.0]})
    assert drawn is not None
    heights = [bar.height for bar in drawn.bars]
    assert heights[1] == 0
    assert heights[2] >= 2
    assert max(heights) <= HEIGHT
    assert drawn.bars[2].words == "2 to 3 eV/Å: 1"
    assert (drawn.low, drawn.high, drawn.total) == (0.0, 3.0, 4_000_001)


def test_a_summary_without_counts_has_no_histogram() -> None:
    for data in (None, {}, {"counts": [], "edges": []}, "text"):
        assert draw("force", "Force", "eV/Å", data) is None


def test_metrics_are_named_with_their_units() -> None:
    assert words.describe("deepmd", "val/rmse_f/H2O") == words.MetricWords(title="Force RMSE", unit="eV/Å", short="F")
    titles = {key: words.column_title("deepmd", key) for key in ("val/rmse_f", "val/rmse_f/H2O", "relax/fmax/ice.2")}
    assert list(titles.values()) == ["F val", "F val H2O", "F max ice.2"]
    scales = {name: known["scale"] for name, known in words.panels("deepmd", ()).items()}
    assert (scales["energy_per_atom"], scales["fmax"]) == ("linear", "log"), "no energy below zero has a logarithm"
    assert panel_of("perf/step_s") == "perf/step_s"
    assert panel_of("train/rmse_e/H2O") == "rmse_e"
    assert words.describe("deepmd", "train/novel").title == "novel"
    assert words.describe("an engine that is gone", "val/loss").title == "Loss"
