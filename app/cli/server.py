"""Which server the client talks to, with which token, and where it learned of both."""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from app.cli.failures import usage

DEFAULT_URL = "http://127.0.0.1:8765"
LOOPBACK = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True)
class Server:
    """A server's address and the token that opens it."""

    url: str
    token: str | None
    url_from: str
    token_from: str

    @property
    def local(self) -> bool:
        """Return whether the server is on this machine."""
        return urlsplit(self.url).hostname in LOOPBACK


def config_file() -> Path:
    """Return where `cairn login` keeps address and token."""
    home = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    return home / "cairn" / "client.json"


def data_dir() -> Path:
    """Return the data directory of a server on this machine, as the server itself finds it."""
    return Path(os.environ.get("CAIRN_DATA_DIR") or Path.home() / ".cairn")


def find() -> Server:
    """Return the server: the environment, else `cairn login`, else the one `cairn up` runs on this machine.

    A token only ever goes to the address it was stored for.
    """
    stored = _stored()
    local_url = _local_url()
    if url := os.environ.get("CAIRN_URL"):
        url_from = "CAIRN_URL"
    elif "CAIRN_DATA_DIR" in os.environ or not stored.get("url"):
        url, url_from = local_url or DEFAULT_URL, "cairn up" if local_url else "default"
    else:
        url, url_from = stored["url"], str(config_file())
    url = checked_url(url)
    token, token_from = _token(url, stored, local_url)
    return Server(url, token, url_from, token_from)


def checked_url(url: str) -> str:
    """Return the address without a trailing slash; refuse what is none."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise usage(f"{url!r} is not a server address.", hint=f"It looks like {DEFAULT_URL}.")
    return url.rstrip("/")


def _token(url: str, stored: dict[str, str], local_url: str | None) -> tuple[str | None, str]:
    if token := os.environ.get("CAIRN_TOKEN"):
        return token.strip(), "CAIRN_TOKEN"
    if url == stored.get("url") and "token" in stored:
        return stored["token"], str(config_file())
    path = data_dir() / "user.token"
    if url in (local_url, DEFAULT_URL) and path.is_file():
        return path.read_text().strip(), str(path)
    return None, "nowhere"


def _stored() -> dict[str, str]:
    try:
        content = json.loads(config_file().read_text())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise usage(
            f"{config_file()} cannot be read: {error}.", hint="Remove it and run `cairn login` again."
        ) from error
    return {key: str(value) for key, value in content.items()} if isinstance(content, dict) else {}


def _local_url() -> str | None:
    try:
        return (data_dir() / "run" / "url").read_text().strip() or None
    except OSError:
        return None


def store(url: str, token: str) -> Path:
    """Keep address and token for later commands, readable by their owner only."""
    path = config_file()
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.unlink(missing_ok=True)
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        json.dump({"url": url, "token": token}, file)
    temporary.replace(path)
    return path
