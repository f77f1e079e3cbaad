import gzip
import hashlib
import json
import lzma
import tarfile

import pytest

from tests.app.datasets.making import tar_of
from tests.app.engines.minimind.intake.conftest import lines, talk

pytestmark = pytest.mark.usefixtures("unconfined")

TEXTS = lines({"text": "one"}, {"text": "zwei ½"}, {"text": "  三\n"})


def stored(store, packed) -> dict[str, bytes]:
    with tarfile.open(store.backend.path(packed.blob.sha256)) as archive:
        return {member.name: archive.extractfile(member).read() for member in archive}


def test_lines_keep_their_text_and_lose_their_layout(pack, store):
    messy = b'\xef\xbb\xbf{ "text" : "a\\u00bd\\/b" , "id": 7}\r\n\n  {"text":"\xe4\xb8\x89"}'
    packed = pack(messy, "corpus.jsonl")
    assert stored(store, packed) == {"corpus.jsonl": '{"text":"a½/b"}\n{"text":"三"}\n'.encode()}
    assert packed.warnings == ("corpus.jsonl: the key 'id' of some lines is left out.",)


def test_the_summary_counts_what_is_there(pack, tmp_path):
    (tmp_path / "up/deep").mkdir(parents=True)
    (tmp_path / "up/deep/b.jsonl").write_bytes(TEXTS)
    (tmp_path / "up/deep/a.jsonl").write_bytes(lines(talk("hi", "hello"), talk("a", "b", "c", "dd")))
    (tmp_path / "up/deep/README.md").write_text("about")
    packed = pack(tar_of(tmp_path / "up"))
    text = packed.summary.text
    assert [(file.name, file.form, file.entries, file.turns) for file in text.files] == [
        ("a.jsonl", "conversations", 2, 6),
        ("b.jsonl", "text", 3, 0),
    ]
    assert (text.documents, text.conversations, text.turns, text.characters) == (3, 2, 6, 7 + 5 + 3 + 6 + 4)
    assert text.size == sum(file.size for file in text.files)
    assert (text.lengths.edges, text.lengths.counts) == ([2.0, 4.0, 8.0], [1, 4])
    assert json.loads(text.files[1].samples[1]) == {"text": "zwei ½"}
    assert packed.warnings == ("Left out: 1 file that holds no JSON lines (README.md)",)


def test_equal_lines_are_one_dataset_however_they_come(pack, tmp_path):
    digest = pack(TEXTS, "corpus.jsonl").digest
    assert pack(gzip.compress(TEXTS), "corpus.jsonl.gz").digest == digest
    assert pack(TEXTS.replace(b'": "', b'":"'), "corpus.json").digest == digest
    (tmp_path / "up").mkdir()
    (tmp_path / "up/corpus.jsonl.xz").write_bytes(lzma.compress(TEXTS))
    assert pack(tar_of(tmp_path / "up")).digest == digest
    content = hashlib.sha256(TEXTS.replace(b'": "', b'":"')).hexdigest()
    assert digest == hashlib.sha256(f"corpus.jsonl\0{content}\n".encode()).hexdigest()


def test_zstd_inside_an_archive_is_read_line_by_line(pack, tmp_path):
    import pyarrow

    (tmp_path / "up").mkdir()
    with pyarrow.CompressedOutputStream(str(tmp_path / "up/corpus.jsonl.zst"), "zstd") as stream:
        stream.write(TEXTS)
    assert pack(tar_of(tmp_path / "up")).digest == pack(TEXTS, "corpus.jsonl").digest


WRONG = [
    pytest.param('{"text": "a"', "bad-json", "is no JSON", id="cut off"),
    pytest.param("[1]", "not-an-object", "holds a list", id="a list"),
    pytest.param('{"txt": "a"}', "no-text", "it has 'txt'", id="another key"),
    pytest.param('{"text": ""}', "empty-text", 'empty "text"', id="empty"),
    pytest.param('{"text": " \\n"}', "empty-text", 'empty "text"', id="blank"),
    pytest.param('{"text": 3}', "not-a-text", "a number", id="a number"),
    pytest.param('{"text": "a", "text": "b"}', "duplicate-key", "'text' twice", id="twice"),
    pytest.param('{"text": "\\ud83d"}', "broken-text", "\\ud83d", id="half a character"),
    pytest.param('{"text": "a", "conversations": []}', "mixed-forms", "both", id="both"),
    pytest.param(talk("a", "b"), "mixed-forms", "but line 1 has", id="another form"),
    pytest.param({"conversations": []}, "not-a-conversation", "nothing", id="no messages"),
    pytest.param({"conversations": ["a"]}, "not-a-message", "message 1 is a text", id="no message"),
    pytest.param({"conversations": [{"role": "bot", "content": "a"}]}, "unknown-role", "'bot'", id="unknown role"),
    pytest.param({"conversations": [{"content": "a"}]}, "unknown-role", "no role", id="no role"),
    pytest.param(talk("a"), "no-answer", "no assistant", id="no answer"),
    pytest.param(talk("a", ""), "empty-text", "message 2 (assistant)", id="empty answer"),
    pytest.param(talk("a", None), "empty-text", "message 2", id="null answer"),
    pytest.param('{"text": ' + "[" * 100_000 + "}", "bad-json", "cannot be read", id="deep"),
]  # fmt: skip


@pytest.mark.parametrize(("line", "code", "words"), WRONG)
def test_a_wrong_line_is_named_with_what_to_do(problems, line, code, words):
    (found,) = problems(lines({"text": "good"}, "", line, {"text": "good"}), "corpus.jsonl")
    assert found.code == code
    assert found.message.startswith("corpus.jsonl, line 3")
    assert words in found.message
    assert found.hint


def test_every_wrong_line_is_named(problems):
    found = problems(lines({"text": ""}, {"text": "a"}, "x", {}), "c.jsonl")
    assert [(one.code, one.message.split(":")[0]) for one in found] == [
        ("empty-text", "c.jsonl, line 1"),
        ("bad-json", "c.jsonl, line 3"),
        ("no-text", "c.jsonl, line 4"),
    ]


def test_what_is_not_utf8_is_named_by_its_byte(problems):
    (found,) = problems('{"text": "grün"}\n'.encode("latin-1"), "c.jsonl")
    assert (found.code, "byte 13 of the line is 0xfc" in found.message) == ("not-utf8", True)


@pytest.mark.parametrize("data", [b"", b"\n\n"])
def test_a_file_without_lines_is_refused(problems, data):
    assert problems(data, "c.jsonl")[0].code == "no-text"


def test_an_archive_without_text_says_what_is_in_it(problems, tmp_path):
    (tmp_path / "up").mkdir()
    (tmp_path / "up/a.parquet").write_bytes(b"PAR1")
    (found,) = problems(tar_of(tmp_path / "up"))
    assert (found.code, "a.parquet" in found.message) == ("no-text", True)
    assert ".jsonl" in found.hint


def test_compressed_lines_cannot_grow_beyond_what_is_accepted(here, problems, tmp_path):
    (tmp_path / "up").mkdir()
    (tmp_path / "up/c.jsonl.gz").write_bytes(gzip.compress(lines({"text": "a" * 1000}) * 2000))
    here.max_dataset_bytes = 1_000_000
    assert problems(tar_of(tmp_path / "up"))[0].code == "dataset-too-large"


def test_tools_and_thoughts_of_messages_are_kept_and_said(pack, store):
    called = {"role": "assistant", "content": "", "tool_calls": [{"name": "now"}]}
    value = {
        "conversations": [{"role": "system", "content": "", "tools": "[]"}, called, {"role": "tool", "content": "9"}]
    }
    packed = pack(lines(value), "c.jsonl")
    assert json.loads(stored(store, packed)["c.jsonl"])["conversations"][1] == called
    assert any("'tool_calls'" in warning for warning in packed.warnings)


def test_a_type_map_is_refused(pack):
    from app.errors import Invalid

    with pytest.raises(Invalid, match="no type map"):
        pack(TEXTS, "c.jsonl", ["O"])
