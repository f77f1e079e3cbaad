"""A blob store in a directory, and one on a real S3 server."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from app.artifacts.store import BlobStore, open_store
from app.settings import Settings


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """Address of an S3 server on the loopback."""
    import logging

    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    _, port = server.get_host_and_port()
    yield f"http://127.0.0.1:{port}"
    server.stop()


@pytest.fixture
def s3_url(s3_server: str, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> str:
    """URL of an empty bucket; the environment holds what opens it."""
    import boto3

    environment = {
        "AWS_ENDPOINT_URL": s3_server,
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_REGION": "us-east-1",
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    bucket = f"bucket-{abs(hash(request.node.nodeid))}"
    boto3.client("s3", endpoint_url=s3_server, region_name="us-east-1").create_bucket(Bucket=bucket)
    return f"s3://{bucket}/some/prefix"


@pytest.fixture
def local_store(tmp_path: Path) -> BlobStore:
    """A store in a directory."""
    return open_store(Settings(data_dir=tmp_path))


@pytest.fixture(params=["directory", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> BlobStore:
    """A store; every test that uses it runs on a directory and on S3."""
    if request.param == "directory":
        return open_store(Settings(data_dir=tmp_path))
    return open_store(Settings(data_dir=tmp_path, blob_url=request.getfixturevalue("s3_url")))
