"""From documents to rows: packing, what is learned, tokenizers, what is set aside."""

import hashlib
import itertools
import json
import random
import subprocess
import sys
import threading

import numpy as np
import pytest

from app.engines.minimind.tokenizer import BOS, EOS
from tests.worker.engines.minimind.minimind_runs import WORDS
from worker.context import Stopped
from worker.engines.base import RefusedFile
from worker.engines.minimind import corpus, tokens
from worker.engines.minimind import tokenizer as tokenizers
from worker.engines.minimind.order import RowOrder
from worker.engines.minimind.tokenizer import Tokenizer
from worker.failures import TrainingFailure


@pytest.fixture(scope="module")
def tokenizer(data_root):
    return tokenizers.train(corpus.locate(["dataset:c@1"], "pretrain", data_root), 320)


def made(documents, tokenizer, stage, tmp_path, length=48):
    path = tmp_path / "rows.arrow"
    counts = tokens.make(((document, 1) for document in documents), tokenizer, stage, length, path, print)
    return tokens.Rows(path), counts


def spoken(tokenizer, ids):
    return tokenizer.core.decode(list(ids), skip_special_tokens=False)


def test_texts_are_packed_end_to_end_and_lose_nothing(tokenizer, data_root, tmp_path):
    found = [document for document, _ in corpus.locate(["dataset:c@1"], "pretrain", data_root).documents()]
    rows, counts = made(found, tokenizer, "pretrain", tmp_path)
    ids, positions, targets = rows.take(range(rows.count))
    flat = ids.reshape(-1)[: counts.tokens].tolist()
    wanted = [number for text in found for number in [1, *tokenizer.core.encode(text).ids, 2]]
    assert flat == wanted
    assert counts.rows == -(-len(wanted) // 48)
    assert counts.padding == 1 - len(wanted) / (counts.rows * 48)
    assert (positions[ids == 1] == 0).all(), "every document begins at position 0"
    assert (positions[:, 0] == 0).all(), "what goes on in the next row begins anew"
    shifted = np.full_like(ids, -100)
    shifted[:, :-1] = ids[:, 1:]
    shifted[shifted == 1] = -100  # nothing comes before a document
    shifted.reshape(-1)[counts.tokens - 1 :] = -100
    assert (targets == shifted).all()


def test_a_row_without_a_token_to_learn_is_left_out(tokenizer, tmp_path):
    """A batch of nothing else would have no loss: NaN, which ends a training."""
    length = len(tokenizer.encode(["the cat"])[0].ids) + 1
    rows, counts = made(["the cat"], tokenizer, "pretrain", tmp_path, length=length)
    assert (rows.count, counts.rows, counts.padding) == (1, 1, 0.0)
    assert (rows.take([0])[2] >= 0).sum() == length - 1


def test_conversations_stay_whole_and_only_answers_are_learned(tokenizer, data_root, tmp_path):
    found = [document for document, _ in corpus.locate(["dataset:s@1"], "sft", data_root).documents()]
    rows, counts = made(found, tokenizer, "sft", tmp_path, length=160)
    ids, positions, targets = rows.take(range(rows.count))
    seen = []
    for row in range(rows.count):
        starts = [*np.flatnonzero(positions[row] == 0).tolist(), 160]
        for first, end in itertools.pairwise(starts):
            text = spoken(tokenizer, ids[row, first:end])
            if text.startswith(BOS):
                seen.append(text)
    assert sorted(seen) == sorted(tokenizer.render(document) for document in found)
    learned = spoken(tokenizer, targets[targets >= 0])
    answers = [message["content"] for document in found for message in document if message["role"] == "assistant"]
    assert sorted(learned.split(EOS)[:-1]) == sorted(answers)
    assert counts.cut == counts.unanswered == 0


def test_packing_conversations_wastes_little(tokenizer, tmp_path):
    chooser = random.Random(1)
    found = [
        [{"role": "user", "content": "x"}, {"role": "assistant", "content": " ".join(chooser.choices(WORDS, k=count))}]
        for count in (int(chooser.lognormvariate(3, 0.8)) % 180 + 1 for _ in range(2000))
    ]
    _, counts = made(found, tokenizer, "sft", tmp_path, length=256)
    assert counts.documents == 2000
    assert counts.padding < 0.02


def test_a_conversation_that_is_too_long_is_cut_and_counted(tokenizer, tmp_path):
    long = [{"role": "user", "content": "dog " * 200}, {"role": "assistant", "content": "cat"}]
    short = [{"role": "user", "content": "dog"}, {"role": "assistant", "content": "cat " * 100}]
    rows, counts = made([long, short], tokenizer, "sft", tmp_path, length=64)
    assert (counts.documents, counts.cut, counts.unanswered, rows.count) == (2, 2, 1, 1)


def test_an_answer_is_found_also_where_its_first_token_belongs_to_the_header(tokenizer, tmp_path):
    chat = [{"role": "user", "content": "x"}, {"role": "assistant", "content": "\n\n  the cat"}]
    rows, _ = made([chat], tokenizer, "sft", tmp_path)
    *_, targets = rows.take([0])
    assert spoken(tokenizer, targets[targets >= 0]).endswith("the cat" + EOS)


def test_rows_and_tokenizer_are_the_same_bytes_in_another_process_with_other_threads(data_root, tmp_path):
    script = (
        "import sys, pathlib; from worker.engines.minimind import corpus, tokens, tokenizer\n"
        "root, out = map(pathlib.Path, sys.argv[1:])\n"
        "found = corpus.locate(['dataset:c@1'], 'pretrain', root)\n"
        "made = tokenizer.train(found, 400)\n"
        "tokens.make(found.documents(), made, 'pretrain', 48, out, print)\n"
        "print(made.digest)"
    )
    results = []
    for threads in ("1", "4"):
        out = tmp_path / threads
        environment = {"RAYON_NUM_THREADS": threads, "PYTHONPATH": ".", "PYTHONHASHSEED": threads}
        printed = subprocess.run(
            [sys.executable, "-c", script, str(data_root), str(out)],
            env=environment, check=True, capture_output=True, text=True,
        )  # fmt: skip
        results.append((printed.stdout, hashlib.sha256(out.read_bytes()).hexdigest()))
    assert results[0] == results[1]


def test_a_trained_tokenizer_has_miniminds_special_tokens_and_every_byte(tokenizer):
    assert (tokenizer.pad, tokenizer.bos, tokenizer.eos, tokenizer.size) == (0, 1, 2, 320)
    text = "line\nÄ 你 \U0001f600 \x00"
    assert tokenizer.decode(tokenizer.encode([text])[0].ids) == text


def test_what_a_library_does_in_one_call_is_not_waited_for_after_a_stop():
    asked, over = itertools.count(1), threading.Event()

    def heed():
        if next(asked) == 3:
            raise Stopped

    try:
        with pytest.raises(Stopped):
            tokenizers._heeding(lambda: over.wait(60), heed)
    finally:
        over.set()
    with pytest.raises(KeyError, match="own"):
        tokenizers._heeding(lambda: {}["own"], lambda: None)


def test_a_vocabulary_smaller_than_bytes_is_refused(data_root):
    with pytest.raises(TrainingFailure, match="at least 259 tokens"):
        tokenizers.train(corpus.locate(["dataset:c@1"], "pretrain", data_root), 258)


def test_a_template_of_its_own_is_used_with_tools_parsed(tokenizer):
    template = "{{ tools[0].name if tools }}{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.tool_calls[0].id if m.tool_calls else m.content }}<|im_end|>\n{% endfor %}"
    own = Tokenizer(tokenizer.json, {"chat_template": template})
    text = own.render([
        {"role": "system", "content": "s", "tools": json.dumps([{"name": "clock"}])},
        {"role": "assistant", "content": "", "tool_calls": json.dumps([{"id": 7}])},
    ])  # fmt: skip
    assert text == "clock<|im_start|>system\ns<|im_end|>\n<|im_start|>assistant\n7<|im_end|>\n"
    assert own.digest != tokenizer.digest


def test_a_conversation_that_the_template_does_not_take_is_shown(tokenizer):
    own = Tokenizer(tokenizer.json, {"chat_template": "{{ raise_exception('roles must alternate') }}"})
    with pytest.raises(TrainingFailure, match=r"roles must alternate.*It begins .*the cat") as failed:
        own.render([{"role": "user", "content": "the cat"}])
    assert failed.value.cause.failure == "data"


def test_two_tokens_or_a_template_make_conversations_possible(tokenizer):
    assert tokenizer.can_converse
    other = json.loads(tokenizer.json)
    other["added_tokens"] = [token for token in other["added_tokens"] if token["content"] != BOS]
    del other["model"]["vocab"][BOS]
    assert not Tokenizer(json.dumps(other), {}).can_converse
    assert Tokenizer(json.dumps(other), {"chat_template": "{{ messages[0].content }}"}).can_converse


def test_a_tokenizer_without_an_end_is_refused(tokenizer):
    document = json.loads(tokenizer.json)
    document["added_tokens"] = [token for token in document["added_tokens"] if token["content"] != EOS]
    del document["model"]["vocab"][EOS]
    with pytest.raises(RefusedFile, match=r"no token <\|im_end\|>"):
        tokenizers.read(json.dumps(document), {})
    with pytest.raises(RefusedFile, match="none that can be read"):
        tokenizers.read("{}", {})


def test_what_is_set_aside_follows_from_the_document_alone(data_root):
    found = [document for document, _ in corpus.locate(["dataset:c@1"], "pretrain", data_root).documents()]
    aside = [document for document in found if corpus.is_set_aside(document, 0.2)]
    assert 15 <= len(aside) <= 45
    assert [document for document in reversed(found) if corpus.is_set_aside(document, 0.2)] == aside[::-1]
    assert {document for document in found if corpus.is_set_aside(document, 0.1)} < set(aside)
    assert not any(corpus.is_set_aside(document, 0.0) for document in found)


def test_a_bad_line_is_named(tmp_path):
    (tmp_path / "x@1").mkdir()
    (tmp_path / "x@1" / "a.jsonl").write_text('{"text": "good"}\n\n{"txt": 1}\n')
    with pytest.raises(TrainingFailure, match=r"a\.jsonl, line 3"):
        list(corpus.locate(["dataset:x@1/a.jsonl"], "pretrain", tmp_path).documents())


def test_every_row_is_seen_once_an_epoch_whatever_step_is_asked_first():
    order = RowOrder(10, 4, seed=3)
    assert order.per_epoch == 3
    batches = [list(order.batch(step)) for step in range(1, 7)]
    assert sorted(batches[0] + batches[1] + batches[2]) == list(range(10))
    assert sorted(batches[3] + batches[4] + batches[5]) == list(range(10))
    assert batches[:3] != batches[3:]
    assert RowOrder(10, 4, seed=3).batch(5) == batches[4]
    assert RowOrder(10, 4, seed=4).batch(5) != batches[4]
