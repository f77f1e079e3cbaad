"""Which server is used, with which token: environment, login, the one on this machine."""

import json
import stat
from pathlib import Path

import pytest

from app.cli import server as addresses
from app.cli.failures import Failure
from tests.app.cli.conftest import Cairn, Server


@pytest.fixture
def local(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nowhere: None) -> Path:
    """The data directory of a server on this machine."""
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "url").write_text("http://127.0.0.1:4321\n")
    (tmp_path / "user.token").write_text("local-token\n")
    monkeypatch.setenv("CAIRN_DATA_DIR", str(tmp_path))
    return tmp_path


def test_the_server_on_this_machine_is_found(local: Path) -> None:
    found = addresses.find()
    assert (found.url, found.token) == ("http://127.0.0.1:4321", "local-token")
    assert found.local


def test_the_environment_comes_first(local: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAIRN_URL", "https://cairn.example/")
    monkeypatch.setenv("CAIRN_TOKEN", " mine\n")
    found = addresses.find()
    assert (found.url, found.token) == ("https://cairn.example", "mine")
    assert not found.local


def test_a_token_only_goes_to_the_address_it_belongs_to(local: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    addresses.store("https://cairn.example", "remote-token")
    monkeypatch.setenv("CAIRN_URL", "https://elsewhere.example")
    assert addresses.find().token is None
    monkeypatch.setenv("CAIRN_URL", "https://cairn.example")
    assert addresses.find().token == "remote-token"
    monkeypatch.setenv("CAIRN_URL", "http://127.0.0.1:4321")
    assert addresses.find().token == "local-token"


def test_what_login_keeps_is_used_and_private(nowhere: None) -> None:
    path = addresses.store("https://cairn.example", "first")
    addresses.store("https://cairn.example", "second")
    found = addresses.find()
    assert (found.url, found.token, found.url_from) == ("https://cairn.example", "second", str(path))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize("url", ["cairn.example", "ftp://cairn.example", "http://", ""])
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(Failure, match="is not a server address"):
        addresses.checked_url(url)


def test_login_checks_the_token_before_it_keeps_it(bare: Cairn, server: Server) -> None:
    refused = bare("login", server.url, "--token", "wrong")
    assert refused.code == 4
    assert not addresses.config_file().exists()
    assert bare("login", server.url, "--token", server.token()).code == 0
    known = bare("whoami", "--json").json
    assert known["url"] == server.url
    assert known["token_from"] == str(addresses.config_file())


def test_exit_codes_tell_what_went_wrong(bare: Cairn, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAIRN_URL", "http://127.0.0.1:1")
    gone = bare("ls")
    assert gone.code == 3
    assert "cannot be reached" in gone.err
    assert "CAIRN_URL" in gone.err
    monkeypatch.setenv("CAIRN_URL", server.url)
    stranger = bare("ls")
    assert stranger.code == 4
    assert f"cairn login {server.url}" in stranger.err
    assert bare("ls", "--limit", "none").code == 2
    assert bare("no-such-command").code == 2
    assert bare("--version").out.startswith("cairn ")


def test_a_server_that_is_not_cairn_is_recognised(bare: Cairn, monkeypatch: pytest.MonkeyPatch) -> None:
    import http.server
    import threading

    class Other(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Other) as other:
        thread = threading.Thread(target=other.serve_forever)
        thread.start()
        monkeypatch.setenv("CAIRN_URL", f"http://127.0.0.1:{other.server_port}")
        monkeypatch.setenv("CAIRN_TOKEN", "x")
        done = bare("ls", "--json")
        other.shutdown()
        thread.join()
    assert done.code == 3
    assert json.loads(done.err)["code"] == "not-cairn"


def test_dashboard_prints_a_link_that_works_once(cairn: Cairn, server: Server) -> None:
    import httpx

    link = cairn("dashboard").out.strip()
    assert "/login?code=" in link
    address = server.url + link[link.index("/login") :]
    with httpx.Client() as browser:
        first = browser.get(address)
        assert first.status_code < 400
    with httpx.Client() as browser:
        assert browser.get(address).status_code >= 400
