"""The model: MiniMind's formula, MiniMind's names, documents that do not see each other, weights drawn one by one."""

import pytest
import torch

from app.engines.minimind import ENGINE
from app.engines.minimind.model import shapes
from tests.worker.engines import accidents
from tests.worker.engines.minimind import reference
from tests.worker.engines.minimind.minimind_runs import LLAMA, MIXTURE, make_config, resolved
from worker import rng
from worker.engines.minimind import errands, model, names

KINDS = {
    "dense": {},
    "head of its own": {"tie_word_embeddings": False},
    "llama": LLAMA,
    "mixture": MIXTURE,
    "mixture, first expert only, as it is": {**MIXTURE, "num_experts_per_tok": 1, "norm_topk_prob": False},
}


def section_of(kind, **changed):
    return resolved(make_config(model={**KINDS[kind], **changed}))["model"]


def distorted(section):
    """Return a model whose norms are not all ones."""
    built = model.build(section)
    with torch.no_grad():
        for number, tensor in enumerate(names.tensors(built).values()):
            if tensor.dim() == 1:
                tensor.copy_(1 + 0.3 * torch.sin(torch.arange(len(tensor)) + number))
            elif number:
                tensor.mul_(8)  # far from what is nearly linear
    return built


@pytest.mark.parametrize("kind", KINDS)
def test_logits_and_balance_are_those_of_miniminds_formula(kind):
    section = section_of(kind)
    built = distorted(section)
    tokens = torch.randint(300, (13,), generator=torch.Generator().manual_seed(0))
    wanted, aux = reference.forward(tokens, names.tensors(built), section)
    logits, routed = model.predict(built, tokens[None], torch.arange(13)[None])
    assert (logits[0] - wanted).abs().max() < 2e-4 * wanted.abs().max()
    if section["use_moe"]:
        assert torch.isclose(model.balance(routed, section), aux, rtol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_a_documents_logits_do_not_change_with_its_neighbours(kind):
    built = distorted(section_of(kind))
    tokens = torch.randint(300, (1, 20), generator=torch.Generator().manual_seed(1))
    positions = torch.tensor([[*range(7), 0, *range(9), *range(3)]])
    together, _ = model.predict(built, tokens, positions)
    for start, end in ((0, 7), (7, 8), (8, 17), (17, 20)):
        alone, _ = model.predict(built, tokens[:, start:end], positions[:, start:end])
        assert torch.allclose(together[:, start:end], alone, atol=1e-4), (start, end)
    other, _ = model.predict(built, tokens, torch.arange(20)[None])
    assert not torch.allclose(together, other, atol=1e-2), "positions are what keeps them apart"


@pytest.mark.parametrize("kind", KINDS)
def test_names_and_shapes_are_those_that_the_torch_free_half_knows(kind):
    config = resolved(make_config(model=KINDS[kind]))
    built = names.tensors(model.build(config["model"]))
    assert {name: list(tensor.shape) for name, tensor in built.items()} == shapes(config["model"])
    listed = errands.inventory(ENGINE.inventory_order(config)).tensors
    assert {tensor.name: tensor.shape for tensor in listed} == shapes(config["model"])
    aliases = {tensor.name: tensor.alias_of for tensor in listed if tensor.alias_of}
    is_tied = config["model"]["tie_word_embeddings"]
    assert aliases == ({"lm_head.weight": "model.embed_tokens.weight"} if is_tied else {})


def test_what_is_written_into_a_named_tensor_is_in_the_model():
    built = model.build(section_of("mixture"))
    tensors = names.tensors(built)
    tensors["model.layers.1.mlp.experts.2.up_proj.weight"].fill_(7.0)
    fused = built.model.layers[1].mlp.experts.gate_up_proj
    assert (fused[2, 24:] == 7.0).all()
    assert not (fused[2, :24] == 7.0).any()
    assert not (fused[1] == 7.0).any()


def test_a_larger_model_moves_no_weight_of_a_smaller_one():
    small = names.tensors(model.build(section_of("dense")))
    large = names.tensors(model.build(section_of("dense", num_hidden_layers=4)))
    assert all(torch.equal(tensor, large[name]) for name, tensor in small.items())
    wider = names.tensors(model.build(section_of("dense", vocab_size=333)))
    inside = "model.layers.0.self_attn.q_proj.weight"
    assert torch.equal(small[inside], wider[inside])


def test_building_draws_from_no_global_generator_and_is_not_moved_by_them():
    first = names.tensors(model.build(section_of("mixture")))
    accidents.stir()
    before = rng.digests(rng.get_state())
    second = names.tensors(model.build(section_of("mixture")))
    assert rng.digests(rng.get_state()) == before
    assert all(torch.equal(tensor, second[name]) for name, tensor in first.items())
    other = names.tensors(model.build(section_of("mixture", seed=4)))
    assert not torch.equal(first["model.embed_tokens.weight"], other["model.embed_tokens.weight"])


def test_weights_are_spread_as_the_config_says():
    tensors = names.tensors(model.build(section_of("dense", initializer_range=0.1)))
    assert tensors["model.embed_tokens.weight"].std().item() == pytest.approx(0.1, rel=0.05)
    assert (tensors["model.norm.weight"] == 1).all()
