import hashlib
import io
import json
import tarfile

import numpy as np
import pytest

from app.datasets import service
from app.datasets.ingest import safe_name
from app.wire.datasets import DatasetRef
from tests.app.datasets.making import tar_of, write_system


@pytest.fixture
def archive(tmp_path) -> bytes:
    write_system(tmp_path / "upload" / "a")
    return tar_of(tmp_path / "upload")


@pytest.fixture
def other(tmp_path) -> bytes:
    def change(content):
        content["energy"] = content["energy"] + 1

    write_system(tmp_path / "other" / "a", change=change)
    return tar_of(tmp_path / "other")


def upload(client, data: bytes, name="water", file_name="water.tar", **fields):
    return client.post("/api/v1/datasets", data={"name": name, **fields}, files={"file": (file_name, data)})


def scratch(app) -> list[str]:
    return [path.name for path in app.state.blobs.scratch.iterdir()]


def test_an_upload_becomes_a_version(app, client, archive):
    answer = upload(client, archive)
    assert answer.status_code == 201, answer.text
    dataset = answer.json()
    assert (dataset["name"], dataset["version"], dataset["engine"]) == ("water", 1, "deepmd")
    assert dataset["source"] == "file water.tar"
    assert dataset["summary"]["systems"][0]["elements"] == {"O": 3, "H": 1}
    for ref in (dataset["id"], "water", "water@1"):
        assert client.get(f"/api/v1/datasets/{ref}").json() == dataset
    assert scratch(app) == []


@pytest.mark.usefixtures("unconfined")
def test_a_bare_body_works_like_a_form(client, archive):
    answer = client.post("/api/v1/datasets?name=water&filename=w.tar", content=archive)
    assert answer.status_code == 201, answer.text
    assert answer.json()["source"] == "file w.tar"
    assert upload(client, archive).json()["id"] == answer.json()["id"]


@pytest.mark.usefixtures("unconfined")
def test_the_same_content_is_the_same_version(client, archive, other):
    first = upload(client, archive).json()
    again = upload(client, archive, file_name="renamed.tar")
    assert (again.status_code, again.json()) == (200, first)
    second = upload(client, other)
    assert (second.status_code, second.json()["version"]) == (201, 2)
    assert upload(client, archive).json()["version"] == 1
    elsewhere = upload(client, archive, name="steam")
    assert (elsewhere.status_code, elsewhere.json()["version"]) == (201, 1)
    assert elsewhere.json()["digest"] == first["digest"]
    assert client.get("/api/v1/datasets/water").json()["version"] == 2


def test_what_is_downloaded_can_be_trained_on(client, archive):
    upload(client, archive)
    answer = client.get("/api/v1/datasets/water/download")
    assert answer.headers["Content-Type"] == "application/x-tar"
    assert answer.headers["Content-Disposition"] == 'attachment; filename="water-v1.tar"'
    assert answer.headers["ETag"] == f'"{hashlib.sha256(answer.content).hexdigest()}"'
    with tarfile.open(fileobj=io.BytesIO(answer.content)) as tar:
        assert tar.getnames() == [
            "a/set.000/box.npy",
            "a/set.000/coord.npy",
            "a/set.000/energy.npy",
            "a/set.000/force.npy",
            "a/set.000/virial.npy",
            "a/type.raw",
            "a/type_map.raw",
        ]
    part = client.get("/api/v1/datasets/water/download", headers={"Range": "bytes=0-9"})
    assert (part.status_code, part.content) == (206, answer.content[:10])
    assert client.head("/api/v1/datasets/water/download").headers["Content-Length"] == str(len(answer.content))


@pytest.mark.usefixtures("unconfined")
def test_lists_go_from_new_to_old_in_pages(client, archive):
    for number in range(5):
        upload(client, archive, name=f"set-{number}")
    first = client.get("/api/v1/datasets", params={"limit": 2}).json()
    assert [item["name"] for item in first["items"]] == ["set-4", "set-3"]
    second = client.get("/api/v1/datasets", params={"limit": 3, "cursor": first["next_cursor"]}).json()
    assert [item["name"] for item in second["items"]] == ["set-2", "set-1", "set-0"]
    assert second["next_cursor"] is None
    found = client.get("/api/v1/datasets", params={"name": "T-3"}).json()
    assert [item["name"] for item in found["items"]] == ["set-3"]
    assert client.get("/api/v1/datasets", params={"name": "%"}).json()["items"] == []
    assert client.get("/api/v1/datasets", params={"cursor": "x"}).json()["code"] == "bad-cursor"


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_list_tells_what_is_in_a_dataset_in_numbers_and_its_own_address_the_rest(client):
    pairs = "".join(f"2\n\nCu 0 0 0\nO 0 0 {2 + number / 100}\n" for number in range(40))
    params = {"name": "pairs", "filename": "pairs.xyz", "form": "structures"}
    sent = client.post("/api/v1/datasets", params=params, content=pairs.encode())
    assert sent.status_code == 201, sent.text
    [listed] = client.get("/api/v1/datasets").json()["items"]
    assert [listed["contents"][key] for key in ("elements", "structures", "systems", "files")] == [
        ["Cu", "O"],
        40,
        0,
        0,
    ]
    assert len(json.dumps(listed)) < 1000
    whole = client.get("/api/v1/datasets/pairs").json()
    assert len(whole["summary"]["structures"]) == 40
    assert {key: whole[key] for key in listed if key != "contents"} == {
        key: value for key, value in listed.items() if key != "contents"
    }


@pytest.mark.usefixtures("unconfined")
def test_bad_data_is_refused_with_all_that_is_wrong(app, client, tmp_path):
    def change(content):
        content["force"][1, 4] = np.nan

    write_system(tmp_path / "bad" / "one", change=change)
    write_system(tmp_path / "bad" / "two", types="0\n0\n7\n0\n")
    answer = upload(client, tar_of(tmp_path / "bad"))
    assert answer.status_code == 422
    body = answer.json()
    assert {problem["code"] for problem in body["problems"]} == {"not-finite", "type-out-of-range"}
    assert body["message"] == body["problems"][0]["message"]
    assert client.get("/api/v1/datasets").json()["items"] == []
    assert scratch(app) == []


@pytest.mark.parametrize("name", ["", "Water", "-water", "a b", "a/b", "x" * 64, "dataset:x", "ü"])
def test_a_bad_name_is_refused(client, archive, name):
    answer = upload(client, archive, name=name)
    assert (answer.status_code, answer.json()["code"], answer.json()["pointer"]) == (422, "bad-name", "/name")
    answer = client.post("/api/v1/datasets", params={"name": name}, content=archive)
    assert (answer.status_code, answer.json()["code"]) == (422, "bad-name")


def test_an_unknown_engine_is_refused(client, archive):
    answer = upload(client, archive, engine="alchemy")
    assert (answer.status_code, answer.json()["code"]) == (422, "unknown-engine")


@pytest.mark.usefixtures("unconfined")
def test_elements_may_come_with_the_upload(client, tmp_path):
    write_system(tmp_path / "plain" / "a", type_map=None)
    answer = upload(client, tar_of(tmp_path / "plain"), type_map="Cu, Au")
    assert answer.status_code == 201, answer.text
    assert answer.json()["summary"]["type_map"] == ["Cu", "Au"]


def test_malformed_forms_are_refused(client, archive):
    assert client.post("/api/v1/datasets", data={"name": "x"}).json()["code"] == "bad-name"
    answer = client.post("/api/v1/datasets", files={"other": ("a.tar", archive)}, data={"name": "x"})
    assert (answer.status_code, answer.json()["code"]) == (422, "missing-file")
    files = [("file", ("a.tar", archive)), ("file", ("b.tar", archive))]
    assert client.post("/api/v1/datasets", files=files, data={"name": "x"}).json()["code"] == "missing-file"
    kind = {"Content-Type": "multipart/form-data; boundary=x"}
    whole = b'--x\r\nContent-Disposition: form-data; name="name"\r\n\r\nwater\r\n--x--\r\n'
    for body in (b"", b"nonsense", whole[:-6], whole.replace(b"name=", b"nom="), b"--x\r\n\r\nbody\r\n--x--\r\n"):
        answer = client.post("/api/v1/datasets", content=body, headers=kind)
        assert (answer.status_code, answer.json()["code"]) == (422, "bad-form"), body
    answer = client.post("/api/v1/datasets", content=whole, headers={"Content-Type": "multipart/form-data"})
    assert answer.json()["code"] == "bad-form"


def test_an_upload_over_the_limit_is_refused(app, client, settings, archive):
    settings.max_upload_bytes = 10_000
    for answer in (
        upload(client, archive),
        client.post("/api/v1/datasets?name=x", content=archive),
        client.post("/api/v1/datasets?name=x", content=iter([archive[:5000], archive[5000:]])),
    ):
        assert (answer.status_code, answer.json()["code"]) == (413, "too-large")
    assert scratch(app) == []


def test_strangers_upload_nothing(anonymous, archive):
    assert upload(anonymous, archive).status_code == 401


@pytest.mark.usefixtures("unconfined")
def test_an_unknown_dataset_is_named_with_those_there_are(client, archive):
    upload(client, archive)
    for ref in ("nothing", "water@2", "999", "water@0", "9" * 30):
        answer = client.get(f"/api/v1/datasets/{ref}")
        assert (answer.status_code, answer.json()["code"]) == (404, "no-such-dataset")
        assert "water" in answer.json()["hint"]


@pytest.mark.usefixtures("unconfined")
def test_a_name_of_digits_is_still_a_name(client, archive):
    dataset = upload(client, archive, name="2024").json()
    assert client.get("/api/v1/datasets/2024").json() == dataset
    assert client.get("/api/v1/datasets/2024@1").json() == dataset


def test_a_directory_below_a_root_is_copied(client, settings, tmp_path):
    root = write_system(tmp_path / "data" / "group" / "a")
    settings.dataset_roots = [tmp_path / "data"]
    answer = client.post("/api/v1/datasets/directory", json={"name": "group", "path": str(root.parent)})
    assert answer.status_code == 201, answer.text
    assert answer.json()["source"] == f"directory {root.parent}"
    before = client.get("/api/v1/datasets/group/download").content
    np.save(root / "set.000" / "energy.npy", np.zeros(6))
    assert client.get("/api/v1/datasets/group/download").content == before
    again = client.post("/api/v1/datasets/directory", json={"name": "group", "path": str(root.parent)})
    assert (again.status_code, again.json()["version"]) == (201, 2)


def test_a_directory_elsewhere_is_refused(client, settings, tmp_path):
    write_system(tmp_path / "data" / "a")
    write_system(tmp_path / "secret" / "b")
    (tmp_path / "data" / "door").symlink_to(tmp_path / "secret")
    settings.dataset_roots = [tmp_path / "data"]
    for path in ("secret", "data/door", "data/../secret", "data-other"):
        answer = client.post("/api/v1/datasets/directory", json={"name": "x", "path": str(tmp_path / path)})
        assert (answer.status_code, answer.json()["code"]) == (403, "outside-roots"), path
    answer = client.post("/api/v1/datasets/directory", json={"name": "x", "path": "data/a"})
    assert answer.json()["code"] == "outside-roots"
    answer = client.post("/api/v1/datasets/directory", json={"name": "x", "path": str(tmp_path / "data" / "none")})
    assert (answer.status_code, answer.json()["code"]) == (404, "no-such-directory")


@pytest.mark.usefixtures("unconfined")
def test_links_inside_a_directory_lead_nowhere_else(client, settings, tmp_path):
    root = write_system(tmp_path / "data" / "a")
    (tmp_path / "outside.npy").write_bytes(b"secret")
    settings.dataset_roots = [tmp_path / "data"]
    (root / "set.000" / "fparam.npy").symlink_to(tmp_path / "outside.npy")
    answer = client.post("/api/v1/datasets/directory", json={"name": "x", "path": str(root)})
    assert (answer.status_code, answer.json()["code"]) == (422, "outside-roots")
    assert "set.000/fparam.npy" in answer.json()["message"]
    (root / "set.000" / "fparam.npy").unlink()
    (root / "more").symlink_to(tmp_path)
    answer = client.post("/api/v1/datasets/directory", json={"name": "x", "path": str(root)})
    assert answer.json()["code"] == "linked-directory"


def test_no_directory_can_be_registered_unless_a_root_is_set(client, tmp_path):
    write_system(tmp_path / "data" / "a")
    answer = client.post("/api/v1/datasets/directory", json={"name": "x", "path": str(tmp_path / "data")})
    assert (answer.status_code, answer.json()["code"]) == (403, "outside-roots")
    assert "CAIRN_DATASET_ROOTS" in answer.json()["hint"]


@pytest.mark.usefixtures("unconfined")
def test_other_parts_find_versions_and_facts(app, client, archive, other):
    upload(client, archive)
    upload(client, other)
    with app.state.sessions() as session:
        newest = service.find(session, DatasetRef(name="water"))
        first = service.find(session, DatasetRef(name="water", version=1))
        assert (newest.version, first.version) == (2, 1)
        assert service.find(session, DatasetRef(name="water", version=3)) is None
        facts = service.facts(first)
    assert (facts.name, facts.version, facts.digest, facts.type_map) == ("water", 1, first.digest, ("O", "H"))
    assert facts.systems[0].frames == 6


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("water.tar.gz", "water.tar.gz"),
        ("../../x.tar", "x.tar"),
        ("C:\\x\\OUTCAR", "OUTCAR"),
        (".hidden", "hidden"),
        ("-rf", "rf"),
        ("a b;c.extxyz", "a_b_c.extxyz"),
        ("水.tar", "_.tar"),
        ("..", "upload"),
        ("", "upload"),
    ],
)
def test_file_names_are_made_harmless(name, safe):
    assert safe_name(name) == safe
