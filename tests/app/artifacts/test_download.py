import base64
import hashlib

import pytest
from fastapi import FastAPI, Request
from starlette.testclient import TestClient

from app import failures
from app.artifacts.transfer import content_disposition, download

DATA = bytes(range(256)) * 10_000
SHA256 = hashlib.sha256(DATA).hexdigest()
ETAG = f'"{SHA256}"'


@pytest.fixture
def client(store):
    app = FastAPI()
    failures.install(app)
    store.keep_bytes(DATA)
    empty = store.keep_bytes(b"").sha256

    @app.get("/blob")
    @app.head("/blob")
    def blob(request: Request):
        return download(request, store, SHA256, file_name="model.ckpt-100.pt")

    @app.get("/empty")
    def nothing(request: Request):
        return download(request, store, empty)

    return TestClient(app)


def get(client, **headers: str):
    return client.get("/blob", headers={name.replace("_", "-"): value for name, value in headers.items()})


def test_the_whole_file_says_what_it_is(client):
    answer = get(client)
    assert (answer.status_code, answer.content) == (200, DATA)
    assert answer.headers["ETag"] == ETAG
    assert answer.headers["Accept-Ranges"] == "bytes"
    assert answer.headers["Content-Length"] == str(len(DATA))
    assert answer.headers["Content-Disposition"] == 'attachment; filename="model.ckpt-100.pt"'
    digest = answer.headers["Repr-Digest"].removeprefix("sha-256=:").removesuffix(":")
    assert base64.b64decode(digest) == hashlib.sha256(DATA).digest()


def test_head_has_the_headers_and_no_body(client):
    answer = client.head("/blob")
    assert (answer.status_code, answer.content) == (200, b"")
    assert answer.headers["Content-Length"] == str(len(DATA))


@pytest.mark.parametrize(
    ("header", "start", "stop"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=100-299", 100, 300),
        ("bytes=0-", 0, len(DATA)),
        ("bytes=2559999-", len(DATA) - 1, len(DATA)),
        ("bytes=2000000-99999999", 2_000_000, len(DATA)),
        ("bytes=-100", len(DATA) - 100, len(DATA)),
        ("bytes=-99999999", 0, len(DATA)),
    ],
)
def test_a_range_is_sent_alone(client, header, start, stop):
    answer = get(client, Range=header)
    assert answer.status_code == 206
    assert answer.content == DATA[start:stop]
    assert answer.headers["Content-Range"] == f"bytes {start}-{stop - 1}/{len(DATA)}"
    assert answer.headers["Content-Length"] == str(stop - start)


@pytest.mark.parametrize("header", ["bytes=2560000-", "bytes=9999999-99999999", "bytes=-0"])
def test_a_range_outside_of_the_file_is_refused_with_its_size(client, header):
    answer = get(client, Range=header)
    assert answer.status_code == 416
    assert answer.headers["Content-Range"] == f"bytes */{len(DATA)}"
    assert answer.json()["code"] == "range-not-satisfiable"


@pytest.mark.parametrize("header", ["bytes=5-2", "bytes=a-b", "bytes=-", "items=0-5", "bytes=0-1,5-9"])
def test_a_range_that_is_none_or_several_is_answered_with_everything(client, header):
    answer = get(client, Range=header)
    assert (answer.status_code, answer.content) == (200, DATA)


def test_any_range_of_an_empty_file_lies_outside(client):
    assert client.get("/empty").content == b""
    assert client.get("/empty", headers={"Range": "bytes=0-"}).status_code == 416


def test_what_the_client_has_is_not_sent_again(client):
    for header in (ETAG, f"W/{ETAG}", f'"other", {ETAG}', "*"):
        answer = get(client, If_None_Match=header)
        assert (answer.status_code, answer.content) == (304, b"")
        assert answer.headers["ETag"] == ETAG
    assert get(client, If_None_Match='"other"').status_code == 200


def test_a_download_goes_on_only_if_the_file_is_still_the_same(client):
    assert get(client, Range="bytes=5-9", If_Range=ETAG).status_code == 206
    for other in ('"other"', f"W/{ETAG}", "Wed, 21 Oct 2026 07:28:00 GMT"):
        answer = get(client, Range="bytes=5-9", If_Range=other)
        assert (answer.status_code, answer.content) == (200, DATA)


def test_a_damaged_file_is_an_error_not_a_download(client, store):
    from tests.app.artifacts.test_store import damage

    damage(store, SHA256, DATA[:-1] + b"x")
    for header in ({}, {"Range": "bytes=0-9"}):
        answer = client.get("/blob", headers=header)
        assert answer.status_code == 410
        assert answer.json()["code"] == "blob-corrupt"


@pytest.mark.parametrize(
    ("name", "header"),
    [
        ("input.json", 'attachment; filename="input.json"'),
        ("../../etc/passwd", 'attachment; filename="passwd"'),
        ("C:\\data\\x.tar", 'attachment; filename="x.tar"'),
        ('a"b\r\nX: y', "attachment; filename=\"a_bX_ y\"; filename*=UTF-8''a%22bX%3A%20y"),
        ("水.tar", "attachment; filename=\"_.tar\"; filename*=UTF-8''%E6%B0%B4.tar"),
        ("..", 'attachment; filename="download"'),
    ],
)
def test_a_file_name_cannot_smuggle_anything_in(name, header):
    assert content_disposition(name) == header
