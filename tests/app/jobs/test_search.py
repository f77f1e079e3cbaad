import pytest

from app.jobs import leaves
from app.wire.resolution import Origin


@pytest.fixture
def jobs(submit, config):
    """Two jobs: one with rcut 5 as given, one with rcut 8 and another descriptor's `type` left to its default."""
    first = submit(name="short")["id"]
    config["model"]["descriptor"] |= {"rcut": 8.0, "rcut_smth": 0.5}
    del config["loss"]["type"]
    return first, submit(name="long")["id"]


def search(client, *where):
    answer = client.get("/api/v1/jobs", params={"where": list(where)})
    assert answer.status_code == 200, answer.text
    return [job["name"] for job in answer.json()["items"]]


@pytest.mark.parametrize(
    ("expression", "found"),
    [
        ("descriptor.rcut > 6", ["long"]),
        ("rcut>=8", ["long"]),
        ("rcut >= 5", ["long", "short"]),
        ("rcut < 8", ["short"]),
        ("rcut <= 4.9", []),
        ("rcut = 5", ["short"]),
        ("rcut = 5.0", ["short"]),
        ("rcut != 5", ["long"]),
        ("model.descriptor.type = se_e2_a", ["long", "short"]),
        ('model.descriptor.type = "se_e2_a"', ["long", "short"]),
        ("model.descriptor.type != se_e2_a", []),
        ("escriptor.rcut > 0", []),
        ("Descriptor.rcut > 0", []),
        ("model.rcut > 0", []),
        ("rcut = null", []),
        ("resnet_dt = false", ["long", "short"]),
        ('type_map = ["Cu"]', ["long", "short"]),
        ("explicit:descriptor.rcut > 6", ["long"]),
        ("explicit: rcut", ["long", "short"]),
        ("default:rcut", []),
        ("explicit:loss.type", ["short"]),
        ("default:loss.type = ener", ["long"]),
        ("seed:descriptor.seed", ["long", "short"]),
        ("rcut_smth", ["long", "short"]),
        ("no_such_key", []),
        ("rcut_sm%h", []),
        ("rcut = " + "[" * 900, []),
    ],
)
def test_jobs_are_found_by_value_and_origin(client, jobs, expression, found):
    assert search(client, expression) == found


def test_several_expressions_must_all_hold(client, jobs):
    assert search(client, "rcut > 1", "rcut_smth < 1") == ["long"]
    assert search(client, "rcut > 6", "rcut_smth > 1") == []


def test_a_search_goes_with_other_filters_and_pages(client, jobs):
    page = client.get("/api/v1/jobs", params={"where": "rcut > 1", "limit": 1}).json()
    assert [job["name"] for job in page["items"]] == ["long"]
    rest = client.get("/api/v1/jobs", params={"where": "rcut > 1", "cursor": page["next_cursor"]}).json()
    assert [job["name"] for job in rest["items"]] == ["short"]
    assert client.get("/api/v1/jobs", params={"where": "rcut > 1", "state": "failed"}).json()["items"] == []


@pytest.mark.parametrize(
    "expression",
    [
        "", "> 6", "rcut >", "rcut == 6", "rcut => 6", "rcut 6", "explict:rcut", "rcut > six", 'rcut > "6"', "a..b = 1",
        "rcut = NaN", "rcut = 1e999", "rcut > " + "9" * 400, "rcut = a\0b", "a\0b", r'type = "\ud800"',
    ],
)  # fmt: skip
def test_a_search_that_cannot_be_read_is_refused_with_an_example(client, jobs, expression):
    answer = client.get("/api/v1/jobs", params={"where": ["rcut > 6", expression]})
    assert answer.status_code == 422, answer.text
    (problem,) = answer.json()["problems"]
    assert problem["code"] == "bad-search"
    assert "`where`" in problem["message"]
    assert repr(expression) in problem["message"]
    assert "descriptor.rcut > 6" in problem["hint"]


def test_all_searches_that_cannot_be_read_are_told_at_once(client, jobs):
    answer = client.get("/api/v1/jobs", params={"where": ["rcut >", "ok = 1", "== 5"]})
    assert len(answer.json()["problems"]) == 2


def test_a_leaf_too_deep_for_the_table_is_left_out():
    key = "k" * 300
    config = {"a": {key: {key: 1}}, "b": {"c" * 201: 2}, "d": 3}
    explicit = Origin(origin="explicit")
    origins = {f"/a/{key}/{key}": explicit, "/b/" + "c" * 201: explicit, "/d": explicit}
    assert [row["pointer"] for row in leaves.rows(1, config, origins)] == ["/d"]


def test_a_long_value_is_cut():
    (row,) = leaves.rows(1, {"a": "x" * 1000}, {"/a": Origin(origin="explicit")})
    assert len(row["text"]) == leaves.MAX_TEXT
