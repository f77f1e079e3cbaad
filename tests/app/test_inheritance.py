"""Where values came from, in words."""

from app.inheritance import inheritance
from app.wire.resolution import LosingCandidate, Origin, Resolution

SHA256 = "9f3c" * 16


def line(origin: Origin, value: object = 6.0, base: str | None = "water@3") -> list[str]:
    resolution = Resolution(
        config={"model": {"rcut": value}},
        origins={"/model/rcut": origin},
        digest="",
        seed=1,
        seeds={},
        total_steps=1,
    )
    return inheritance(resolution, base, SHA256 if base else None)


def lost(origin: str, value: object) -> LosingCandidate:
    return LosingCandidate.model_validate({"origin": origin, "value": value})


def test_an_inherited_value_names_its_base_and_the_default() -> None:
    origin = Origin(origin="base", source=SHA256, note="water@3", losing=[lost("default", 5.0)])
    assert line(origin) == [
        "model.rcut = 6.0: inherited from water@3 (sha256 9f3c9f3c9f3c…); default would be 5.0",
    ]


def test_a_reordered_value_says_so() -> None:
    origin = Origin(origin="base", note="water@3, reordered for type_map [H, O]")
    assert line(origin, [92, 46]) == [
        "model.rcut = [92, 46]: inherited from water@3 (sha256 9f3c9f3c9f3c…); reordered for type_map [H, O]"
    ]


def test_an_explicit_value_against_a_base() -> None:
    origin = Origin(origin="explicit", losing=[lost("base", [46, 92]), lost("default", "auto")])
    assert line(origin, [60, 120]) == ["model.rcut = [60, 120]: explicit; water@3 had [46, 92]"]


def test_explicit_values_and_defaults_that_nobody_contests_are_not_told() -> None:
    assert line(Origin(origin="explicit", losing=[lost("default", 5.0)])) == []
    assert line(Origin(origin="default"), base=None) == []


def test_migrated_and_derived_values() -> None:
    assert line(Origin(origin="migrated", note="written as model.cut")) == [
        "model.rcut = 6.0: migrated; written as model.cut"
    ]
    assert line(Origin(origin="derived"), base=None) == ["model.rcut = 6.0: derived"]


def test_a_value_without_effect_says_why() -> None:
    assert line(Origin(origin="explicit", ignored="files are named by Cairn")) == [
        "model.rcut = 6.0: explicit; has no effect, files are named by Cairn"
    ]


def test_a_default_that_stands_for_a_base_value_that_is_never_inherited() -> None:
    origin = Origin(origin="default", note="the base's is never inherited", losing=[lost("base", False)])
    assert line(origin, True) == ["model.rcut = true: default; water@3 had false; the base's is never inherited"]
