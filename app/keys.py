"""Secrets on disk: the first tokens and the key that signs session cookies, each in a file of mode 0600."""

import hashlib
import os
import secrets
from contextlib import suppress
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.auth import hash_token, new_token
from app.settings import Settings
from app.tables import Token


def token_file(settings: Settings, scope: str) -> Path:
    """Return where the first token of a scope (`user`, `worker`) is kept."""
    return settings.data_dir / f"{scope}.token"


def ensure_first_tokens(session: Session, settings: Settings) -> None:
    """Make the first user token and the worker token unless they are there; know those that are."""
    for scope in ("user", "worker"):
        digest = hash_token(read_or_create(token_file(settings, scope), new_token(scope)))
        if session.scalar(select(Token.id).where(Token.sha256 == digest)) is None:
            session.add(Token(name=f"first {scope} token {digest[:8]}", scope=scope, sha256=digest))
    session.flush()


def secret_key(settings: Settings) -> bytes:
    """Return the key that signs session cookies: the configured one, or one kept in the data directory."""
    text = settings.secret_key or read_or_create(settings.data_dir / "secret.key", secrets.token_urlsafe(48))
    return hashlib.sha256(b"cairn session cookies:" + text.encode()).digest()


def read_or_create(path: Path, content: str) -> str:
    """Return what stands in the file, or create it with `content`, readable by its owner only.

    Of several processes that start at once, one creates the file and all return the same.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists():
        return path.read_text().strip()
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(content + "\n")
    # Unlike a rename, a link fails when somebody else was faster.
    with suppress(FileExistsError):
        path.hardlink_to(temporary)
    temporary.unlink()
    return path.read_text().strip()
