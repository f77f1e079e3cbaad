import json

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from app.engines.minimind.tokenizer import TEMPLATE as CHATML
from tests.app.datasets.making import tar_of

pytestmark = pytest.mark.usefixtures("unconfined")

SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
TEMPLATE = "{% for message in messages %}{% generation %}{{ message.content }}{% endgeneration %}{% endfor %}"


def trained(special=SPECIAL) -> dict:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(["the cat sat on the mat"] * 50, trainer=trainer)
    return json.loads(tokenizer.to_str())


@pytest.fixture
def upload(tmp_path):
    """Return an archive of these files; documents are written as JSON."""

    def upload(**files) -> bytes:
        (tmp_path / "up/hf").mkdir(parents=True)
        for name, content in files.items():
            text = content if isinstance(content, str) else json.dumps(content, indent=2)
            (tmp_path / "up/hf" / name.replace("__", ".")).write_text(text)
        return tar_of(tmp_path / "up")

    return upload


def test_a_tokenizer_is_described(pack, upload):
    config = {"eos_token": "<|im_end|>", "pad_token": {"content": "<|endoftext|>"}, "chat_template": TEMPLATE}
    packed = pack(upload(tokenizer__json=trained(), tokenizer_config__json=config, merges__txt="x"))
    found = packed.summary.tokenizer
    assert (found.model, found.has_chat_template) == ("BPE", True)
    assert 259 < found.vocab_size <= 300
    assert found.special_tokens == {token: index for index, token in enumerate(SPECIAL)}
    assert found.roles == {"bos_token": SPECIAL[1], "eos_token": SPECIAL[2], "pad_token": SPECIAL[0]}


def test_its_digest_says_how_it_encodes_not_how_the_file_looks(pack, upload):
    alone = pack(json.dumps(trained()).encode(), "tokenizer.json").summary.tokenizer
    spread = pack(upload(tokenizer__json=trained())).summary.tokenizer
    assert alone.digest == spread.digest
    other = pack(json.dumps(trained([*SPECIAL, "<x>"])).encode(), "tokenizer.json").summary.tokenizer
    assert other.digest != alone.digest


def test_a_template_in_a_file_of_its_own_counts(pack, upload):
    found = pack(upload(tokenizer__json=trained(), chat_template__jinja=TEMPLATE)).summary.tokenizer
    assert found.has_chat_template


@pytest.mark.parametrize(("template", "marks"), [(CHATML, True), (TEMPLATE, False)])
def test_it_is_said_whether_answers_are_found_in_what_a_template_writes(pack, upload, template, marks):
    found = pack(upload(tokenizer__json=trained(), chat_template__jinja=template)).summary.tokenizer
    assert found.marks_answers is marks


def test_truncation_of_every_text_is_taken_out_and_said(pack):
    document = trained() | {
        "truncation": {"direction": "Right", "max_length": 8, "strategy": "LongestFirst", "stride": 0}
    }
    packed = pack(json.dumps(document).encode(), "tokenizer.json")
    assert "truncation is left out" in packed.warnings[0]
    assert packed.digest == pack(json.dumps(trained()).encode(), "tokenizer.json").digest


@pytest.mark.parametrize(
    ("files", "code"),
    [
        pytest.param({"tokenizer__json": "{"}, "bad-json", id="cut off"),
        pytest.param({"tokenizer__json": {"model": {"type": "XYZ"}}}, "not-a-tokenizer", id="unknown kind"),
        pytest.param({"tokenizer__json": {}}, "not-a-tokenizer", id="nothing in it"),
        pytest.param({"tokenizer__json": trained(SPECIAL[:2])}, "no-end-token", id="no end"),
        pytest.param(
            {"tokenizer__json": trained(), "tokenizer_config__json": {"eos_token": "</s>"}}, "unknown-token", id="token"
        ),
        pytest.param(
            {"tokenizer__json": trained(), "chat_template__jinja": "{% for %}"}, "bad-template", id="template"
        ),
        pytest.param({"tokenizer__json": trained(), "a__jsonl": '{"text": "a"}'}, "mixed-dataset", id="with text"),
    ],
)
def test_what_is_no_tokenizer_is_refused(problems, upload, files, code):
    (found,) = problems(upload(**files))
    assert found.code == code
