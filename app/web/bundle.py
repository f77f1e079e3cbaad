"""The built assets: which file an entry became, and serving them."""

import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from fastapi import APIRouter
from fastapi.responses import FileResponse, Response

from app.errors import NotFound

DIST = Path(__file__).parent / "assets" / "dist"
HOW_TO_BUILD = "The dashboard's scripts and styles have not been built. Run `make assets` (or `python -m app.web.build`) and reload."
MEDIA_TYPES = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}

router = APIRouter(include_in_schema=False)


@dataclass(frozen=True)
class Bundle:
    """What the build made."""

    urls: dict[str, str]
    """Address by entry (`main.js`)."""
    preloads: dict[str, list[str]]
    """Addresses of the modules an entry imports, so that the browser asks for all of them at once."""
    files: frozenset[str]


def read() -> Bundle | None:
    """Return what was built, or None when nothing was. Read again only when a new build has replaced it."""
    manifest = DIST / "manifest.json"
    try:
        return _parse(manifest, manifest.stat().st_mtime_ns)
    except FileNotFoundError:
        return None


@lru_cache(maxsize=2)
def _parse(manifest: Path, _: int) -> Bundle:
    content = json.loads(manifest.read_text())
    return Bundle(
        urls={name: address(entry["file"]) for name, entry in content["entries"].items()},
        preloads={name: [address(file) for file in entry["imports"]] for name, entry in content["entries"].items()},
        files=frozenset(content["files"]),
    )


def address(file: str) -> str:
    """Return where a built file is served."""
    return f"/assets/{file}"


@router.get("/assets/{file}")
def show_asset(file: str) -> Response:
    """Serve a built file. Its name holds the hash of its content, so browsers may keep it for ever."""
    bundle = read()
    if bundle is None or file not in bundle.files:
        raise NotFound(f"there is no asset {file}", hint="Reload the page; the server may have been updated.")
    return FileResponse(
        DIST / file,
        media_type=MEDIA_TYPES.get(Path(file).suffix, "application/octet-stream"),
        headers={"Cache-Control": "public, max-age=31536000, immutable", "X-Content-Type-Options": "nosniff"},
    )
