"""What a checkpoint holds for others: MiniMind's .pth and a Hugging Face directory, and both again as bases."""

import io
import json
import tarfile
import zipfile

import pytest
import torch

from tests.worker.engines.minimind.minimind_runs import LLAMA, MIXTURE, base_of, make_config, resolved, start_from
from tests.worker.engines.runs import checkpoint_of, events_of, manifest_of
from worker import checkpoint
from worker.engines.base import RefusedFile
from worker.engines.minimind import errands, exports, model, names, tokenizer, weights
from worker.engines.minimind.corpus import locate

KINDS = {"dense": {}, "head of its own": {"tie_word_embeddings": False}, "llama": LLAMA, "mixture": MIXTURE}


def file_of(run, step, ending):
    [path] = (path for path in (run.checkpoints / f"step-{step}").iterdir() if path.name.endswith(ending))
    return path


@pytest.fixture(scope="module")
def made(data_root, tmp_path_factory):
    """By kind: the section, tensors in float32, and the files that a checkpoint would have."""
    found = {}
    own = tokenizer.train(locate(["dataset:c@1"], "pretrain", data_root), 300)
    for kind, changed in KINDS.items():
        section = resolved(make_config(model=changed))["model"]
        tensors = names.tensors(model.build(section))
        root = tmp_path_factory.mktemp("exports")
        exports.write_pth(tensors, section, root / "full_sft_32.pth")
        exports.write_directory(tensors, section, own, root / "m-hf.zip")
        found[kind] = section, tensors, root, own
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_a_hugging_face_directory_loads_with_transformers_alone(made, kind, monkeypatch, tmp_path):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    section, tensors, root, own = made[kind]
    with zipfile.ZipFile(root / "m-hf.zip") as archive:
        archive.extractall(tmp_path)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "m-hf", dtype=torch.float32)
    halved = {name: tensor.half().float() for name, tensor in tensors.items()}
    assert checkpoint.fingerprint(names.tensors(loaded)) == checkpoint.fingerprint(halved)
    text = AutoTokenizer.from_pretrained(tmp_path / "m-hf")
    assert text("the cat 你")["input_ids"] == own.encode(["the cat 你"])[0].ids
    chat = [{"role": "user", "content": "the cat"}]
    assert text.apply_chat_template(chat, tokenize=False, add_generation_prompt=True) == own.render(chat, asks=True)
    ids = torch.tensor([[1, 5, 9, 200]])
    ours = model.build(section)
    for name, tensor in names.tensors(ours).items():
        tensor.copy_(halved[name])
    logits, _ = model.predict(ours, ids, torch.arange(4)[None])
    assert torch.allclose(loaded(ids).logits, logits, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_exports_are_the_same_bytes_every_time(made, kind, tmp_path):
    section, tensors, root, own = made[kind]
    exports.write_pth(tensors, section, tmp_path / "another-name.pth")
    assert (tmp_path / "another-name.pth").read_bytes() == (root / "full_sft_32.pth").read_bytes()
    exports.write_directory(tensors, section, own, tmp_path / "m-hf.zip")
    assert (tmp_path / "m-hf.zip").read_bytes() == (root / "m-hf.zip").read_bytes()


@pytest.mark.parametrize("kind", KINDS)
def test_miniminds_file_comes_back_bit_for_bit_through_a_training_of_nothing(made, kind, runs, tmp_path):
    _, _, root, _ = made[kind]
    original = torch.load(root / "full_sft_32.pth", weights_only=True)
    config = make_config(tokenizer={"source": "train"}, max_steps=1, learning_rate=1e-30, weight_decay=0.0)
    # What the file does not tell is as it was: heads of llama are MiniMind's eight otherwise.
    config["model"] = {"seed": 9}
    path = root / "full_sft_32.pth"
    if kind == "llama":
        path = root / "m-hf.zip"
    whole, spec = start_from(path, config)
    run = runs.make(whole, **spec)
    (run.base / spec["base"]["file_name"]).write_bytes(path.read_bytes())
    run = runs.continue_(run)
    back = torch.load(file_of(run, 1, ".pth"), weights_only=True)
    assert list(back) == list(original)
    assert all(torch.equal(back[name].view(torch.int16), tensor.view(torch.int16)) for name, tensor in original.items())


def test_a_checkpoint_has_a_full_state_and_two_exports(straight):
    files = manifest_of(straight, 8).files
    assert {about["role"] for about in files.values()} == {"checkpoint", "export"}
    assert sorted(name.partition("step8")[2] for name in files) == ["-hf.zip", ".pt", ".pth"]
    saved = checkpoint_of(straight, 8)
    assert saved["window"] == 2, "the step before was the second of three"
    assert set(saved["gradients"]) == {name for name in saved["model"] if name != "lm_head.weight"}
    assert all(tensor.dtype == torch.float32 for tensor in saved["model"].values())


@pytest.mark.parametrize("kind", KINDS)
def test_every_form_is_recognised_as_the_model_it_is(made, kind):
    section, tensors, root, own = made[kind]
    wanted = {key: value for key, value in section.items() if key != "seed"}
    packed = errands.inspect(root / "m-hf.zip", "m.zip")
    assert packed.form == "Hugging Face directory"
    used = (
        wanted
        if section["use_moe"]
        else {key: wanted[key] for key in wanted if "expert" not in key and "moe_" not in key}
    )
    assert {key: packed.branches[0].model[key] for key in used} == used
    told = {"digest": own.digest, "vocab_size": 300, "has_chat_template": True, "marks_answers": True}
    assert packed.branches[0].model["tokenizer"] == told
    assert packed.parameters == sum(tensor.numel() for tensor in {id(t): t for t in _own(tensors, section)}.values())
    if kind == "llama":
        return  # four heads: the file alone does not tell
    plain = errands.inspect(root / "full_sft_32.pth", "full_sft_32.pth")
    inferred = plain.branches[0].model
    told = ("family", "hidden_size", "num_hidden_layers", "num_attention_heads", "head_dim", "vocab_size", "use_moe")
    assert {key: inferred[key] for key in told} == {key: section[key] for key in told}
    assert inferred["tie_word_embeddings"] == section["tie_word_embeddings"]
    assert inferred["tokenizer"] is None
    assert [tensor.sha256 for tensor in plain.tensors] == [tensor.sha256 for tensor in packed.tensors]
    assert [notice.code for notice in plain.warnings] == ["assumed", "name-differs" if section["use_moe"] else "stage"]


def _own(tensors, section):
    return [tensor for name, tensor in tensors.items() if not names.alias_of(name, section["tie_word_embeddings"])]


def test_heads_of_older_models_are_assumed_and_said(tmp_path):
    section = resolved(make_config(model={**LLAMA, "num_attention_heads": 8, "num_key_value_heads": 2}))["model"]
    exports.write_pth(names.tensors(model.build(section)), section, tmp_path / "pretrain_32.pth")
    facts = errands.inspect(tmp_path / "pretrain_32.pth", "pretrain_32.pth")
    found = facts.branches[0].model
    assert (found["family"], found["num_attention_heads"], found["num_key_value_heads"]) == ("llama", 8, 2)
    assert found["rms_norm_eps"] == 1e-5
    assert "num_attention_heads = 8" in facts.warnings[0].message


def test_a_directory_in_parts_of_another_precision_with_wide_heads_is_one_model(tmp_path):
    """As large models are published: bfloat16, several files and their index, heads wider than hidden_size / heads."""
    from transformers import Qwen3ForCausalLM

    sizes = {"num_attention_heads": 8, "num_key_value_heads": 2, "head_dim": 16}
    section = resolved(make_config(model=sizes))["model"]
    published = Qwen3ForCausalLM(model.configuration(section)).to(torch.bfloat16)
    published.save_pretrained(tmp_path / "whole", max_shard_size="20KB")
    parts = sorted((tmp_path / "whole").iterdir())
    assert sum(path.suffix == ".safetensors" for path in parts) > 2

    def packed(name, files):
        with zipfile.ZipFile(tmp_path / name, "w") as archive:
            for path in files:
                archive.write(path, f"whole/{path.name}")
        return tmp_path / name

    facts = errands.inspect(packed("all.zip", parts), "all.zip")
    assert {key: facts.branches[0].model[key] for key in sizes} == sizes
    assert {tensor.dtype for tensor in facts.tensors} == {"bfloat16"}
    found = weights.read(tmp_path / "all.zip").tensors
    assert all(torch.equal(found[name], tensor) for name, tensor in names.tensors(published).items())
    lacking = [path for path in parts if not path.name.startswith("model-00002")]
    with pytest.raises(RefusedFile, match=r"it lacks model\.layers"):
        errands.inspect(packed("lacking.zip", lacking), "lacking.zip")


def test_a_directory_is_also_read_from_a_tar_file_below_a_folder(made, tmp_path):
    _, _, root, _ = made["mixture"]
    with zipfile.ZipFile(root / "m-hf.zip") as archive, tarfile.open(tmp_path / "m.tgz", "w:gz") as tar:
        for name in archive.namelist():
            info = tarfile.TarInfo(f"deep/{name}")
            info.size = archive.getinfo(name).file_size
            tar.addfile(info, io.BytesIO(archive.read(name)))
    assert errands.inspect(tmp_path / "m.tgz", "m.tgz").tensors == errands.inspect(root / "m-hf.zip", "m").tensors


def test_wrappers_and_tables_are_taken_off(made, tmp_path):
    _, _, root, _ = made["dense"]
    plain = torch.load(root / "full_sft_32.pth", weights_only=True)
    wrapped = {f"module._orig_mod.{name}": tensor for name, tensor in plain.items()}
    torch.save(
        {"model": {**wrapped, "model.freqs_cos": torch.ones(3)}, "step": 70, "optimizer": {}}, tmp_path / "x.pth"
    )
    facts = errands.inspect(tmp_path / "x.pth", "x.pth")
    assert {tensor.name for tensor in facts.tensors} == set(plain)
    assert (facts.step, facts.has_optimizer, facts.warnings[0].code) == (70, True, "unwrapped")


def broken(change):
    def write(root, target):
        state = torch.load(root / "full_sft_32.pth", weights_only=True)
        change(state)
        torch.save(state, target)

    return write


def with_config(**changed):
    def write(root, target):
        with zipfile.ZipFile(root / "m-hf.zip") as archive, zipfile.ZipFile(target, "w") as out:
            for name in archive.namelist():
                data = archive.read(name)
                if name.endswith("/config.json"):
                    data = json.dumps({**json.loads(data), **changed}).encode()
                out.writestr(name, data)

    return write


REFUSED = {
    "a matrix is missing": (broken(lambda state: state.pop("model.norm.weight")), "it lacks model.norm.weight"),
    "a matrix too many": (broken(lambda state: state.update(extra=torch.ones(2))), "it has, beyond the model, extra"),
    "not finite": (broken(lambda state: state["model.norm.weight"].fill_(torch.nan)), "not finite"),
    "no embedding": (broken(lambda state: state.pop("model.embed_tokens.weight")), "no model.embed_tokens.weight"),
    "shared experts": (
        broken(lambda state: state.update({"model.layers.0.mlp.shared_experts.0.up_proj.weight": torch.ones(1)})),
        "shared experts",
    ),
    "no tensor": (broken(lambda state: state.update(epoch=3)), "'epoch' in the file is not a plain tensor"),
    "another layer's shape": (
        broken(lambda state: state.update({"model.layers.1.mlp.up_proj.weight": torch.ones(3, 32)})),
        r"shape \[3, 32\] instead of \[48, 32\]",
    ),
    "another architecture": (with_config(model_type="gpt2"), "model type 'gpt2'"),
    "scaled positions": (with_config(rope_parameters={"rope_type": "yarn", "factor": 4.0, "rope_theta": 1e4}), "yarn"),
    "biases": (with_config(attention_bias=True), "attention_bias = True"),
    "other sizes": (with_config(num_hidden_layers=3, layer_types=None), "it lacks model.layers.2"),
    "contradictory": (with_config(layer_types=["full_attention"]), "transformers does not accept its config.json"),
    "text": (lambda _, target: target.write_text("hello"), "neither weights that torch saved"),
    "empty": (lambda _, target: target.write_bytes(b""), "neither weights that torch saved"),
    "cut off": (lambda root, target: target.write_bytes((root / "m-hf.zip").read_bytes()[:5000]), "neither|damaged"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_a_file_that_is_no_model_is_refused_in_words(made, case, tmp_path):
    write, words = REFUSED[case]
    write(made["dense"][2], tmp_path / "x")
    with pytest.raises(RefusedFile, match=words):
        weights.read(tmp_path / "x")


class Trap:
    def __reduce__(self):
        return exec, ("raise SystemExit('executed')",)


def test_code_in_a_file_is_not_run(tmp_path):
    torch.save({"model.embed_tokens.weight": Trap()}, tmp_path / "x.pth")
    with pytest.raises(RefusedFile, match="asks to run"):
        weights.read(tmp_path / "x.pth")


def test_a_checkpoint_of_cairns_is_a_base_with_everything(straight):
    path = file_of(straight, 8, ".pt")
    base = base_of(path)
    assert (base.facts.form, base.facts.step, base.facts.seed) == ("Cairn checkpoint", 8, 1)
    assert base.facts.config == straight.read_spec().config
    [event] = events_of(straight, "tokenizer")
    assert base.facts.branches[0].model["tokenizer"]["digest"] == event["data"]["sha256"]
