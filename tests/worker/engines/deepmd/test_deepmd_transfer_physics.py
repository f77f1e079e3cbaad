"""A model in another type map computes what its base computes, for every descriptor."""

import pytest
import torch

from app.engines.deepmd.transfer import plan
from app.wire.submission import Start
from tests.worker.engines.deepmd import models
from worker.transfer import carry_out

pytestmark = pytest.mark.deepmd

BASE = ["O", "H", "C"]
MAPS = {"permuted": ["C", "O", "H"], "reduced": ["H", "O"], "extended": ["Si", "H", "O", "C"], "same": BASE}
EXACT_WITH_OTHER_TYPES = [kind for kind in models.DESCRIPTORS if not kind.startswith(("se_e2_a", "se_e2_r", "hybrid"))]
CASES = [(kind, "permuted") for kind in models.DESCRIPTORS]
CASES += [(kind, change) for kind in EXACT_WITH_OTHER_TYPES for change in ("reduced", "extended")]


def _frame(elements):
    generator = torch.Generator().manual_seed(1)
    box = torch.eye(3, dtype=torch.float64) * 6.0
    coordinates = torch.rand((len(elements), 3), generator=generator, dtype=torch.float64) * 6.0
    return coordinates, box


def _transferred(kind, type_map, **model):
    """Return a base, and a model in another type map that started from it."""
    document, target = models.config(kind, BASE, **model), models.config(kind, type_map, **model)
    old, new = models.stir(models.build(document), document), models.build(target)
    return old, new, _start(document, target, old, new)


def _start(document, target, old, new):
    """Give a model what is planned of a base, and return the plan."""
    found = plan(target, {}, Start(mode="init", base="water@3"), models.base(document, old), models.inventory(new))
    assert not isinstance(found, list), found
    made = carry_out(found, models.tensors_of(new), models.tensors_of(old), models.aliases_of(old))
    new.load_state_dict({**new.state_dict(), **made})
    return found


@pytest.mark.parametrize(("kind", "change"), CASES, ids=lambda value: value)
def test_energies_and_forces_stay(kind, change):
    type_map = MAPS[change]
    old, new, found = _transferred(kind, type_map)
    elements = [name for name in ["O", "H", "H", "C", "H", "O", "C", "H"] if name in type_map]
    expected = models.energy_and_forces(old, BASE, elements, *_frame(elements))
    actual = models.energy_and_forces(new, type_map, elements, *_frame(elements))
    for one, other in zip(actual, expected, strict=True):
        assert other.abs().max() > 1e-5
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10 * float(other.abs().max()))
    assert found.counts["remapped"] > 0
    assert found.kept == found.parameters or change == "extended"


@pytest.mark.parametrize("change", ["reduced", "extended"])
@pytest.mark.parametrize("kind", ["se_e2_a", "se_e2_a, one side", "se_e2_r"])
def test_a_descriptor_divided_by_its_slots_says_that_other_types_change_it(kind, change):
    _, _, found = _transferred(kind, MAPS[change])
    [said] = found.function_changes
    assert said.pointer == "/model/descriptor/sel"
    assert "is divided by the number of neighbour slots" in said.message


def test_with_as_many_slots_and_no_mean_it_stays_even_then():
    """Where the slots of carbon went to hydrogen, and empty slots count nothing since the mean is zero."""
    document, target = models.config("se_e2_a", BASE), models.config("se_e2_a", ["H", "O"])
    target["model"]["descriptor"]["sel"][0] += models.SLOTS["C"]
    old, new = models.stir(models.build(document), document), models.build(target)
    old.model["Default"].atomic_model.descriptor.sea.mean.zero_()
    _start(document, target, old, new)
    elements = ["O", "H", "H", "H", "O"]
    expected = models.energy_and_forces(old, BASE, elements, *_frame(elements))
    actual = models.energy_and_forces(new, ["H", "O"], elements, *_frame(elements))
    for one, other in zip(actual, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10 * float(other.abs().max()))


@pytest.mark.parametrize("nlayers", [1, 3])
@pytest.mark.parametrize(("kind", "part"), [("dpa2", "repformer"), ("dpa3", "repflow")])
def test_another_number_of_layers_costs_those_layers_and_nothing_else(kind, part, nlayers):
    """Stock `dp --finetune` drops layers without a word (deepmd-kit issue 4848)."""
    document, target = models.config(kind, BASE), models.config(kind, BASE)
    target["model"]["descriptor"][part]["nlayers"] = nlayers
    old, new = models.build(document), models.build(target)
    facts, listed = models.base(document, old), models.inventory(new)
    key = f"model.descriptor.{part}.nlayers"
    [refused] = plan(target, {}, Start(mode="finetune", base="water@3"), facts, listed)
    assert f"{key} is {nlayers}, but water@3 has 2" in refused.message
    assert refused.allow == [key]

    found = plan(target, {}, Start(mode="finetune", base="water@3", allow=[key]), facts, listed)
    lost = {planned.name for planned in found.tensors if planned.verb in ("reinitialised", "unused")}
    ours, theirs = ({tensor.name for tensor in tensors} for tensors in (listed.tensors, facts.facts.tensors))
    assert lost == {name for name in ours ^ theirs if "._networks." not in name}
    assert lost
    assert all(f".{part}s.layers." in name for name in lost)
    carry_out(found, models.tensors_of(new), models.tensors_of(old), models.aliases_of(old))
