"""The command starts fast and works where nothing but the light client is installed."""

import json
import resource
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
LIGHT = {"httpx", "pydantic", "rich", "typer"}


def python(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )


def test_help_loads_typer_and_nothing_heavy() -> None:
    code = """
import json, sys
sys.argv = ["cairn", "--help"]
from app.cli.main import run
try:
    run()
except SystemExit:
    print("LOADED" + json.dumps(sorted(sys.modules)))
"""
    done = python(code)
    loaded = json.loads(next(line for line in done.stdout.splitlines() if line.startswith("LOADED"))[6:])
    heavy = {
        "torch",
        "fastapi",
        "sqlalchemy",
        "numpy",
        "celery",
        "deepmd",
        "httpx",
        "pydantic",
        "app.wire",
        "app.settings",
    }
    assert heavy.isdisjoint(loaded)


def cpu_seconds(*arguments: str) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *arguments], cwd=ROOT, capture_output=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def test_help_takes_little_more_than_drawing_it() -> None:
    # 0.3 s on an idle core. Compared with what typer needs by itself, for other tests slow this one down.
    own = min(cpu_seconds("-m", "app.cli.main", "--help") for _ in range(4))
    typers = min(cpu_seconds("-c", "import typer.rich_utils") for _ in range(4))
    assert own < 2 * typers


@pytest.fixture(scope="module")
def light_install() -> str:
    """Code that hides every distribution that the light client does not need."""
    return f"""
import importlib.metadata as metadata, re, sys
needed, queue = set(), {sorted(LIGHT)!r}
while queue:
    name = queue.pop().lower().replace("_", "-")
    if name in needed: continue
    needed.add(name)
    try: lines = metadata.requires(name) or []
    except metadata.PackageNotFoundError: continue
    queue += [re.match(r"[A-Za-z0-9._-]+", line)[0] for line in lines if "extra ==" not in line]
allowed = {{top for top, names in metadata.packages_distributions().items()
           if any(n.lower().replace("_", "-") in needed for n in names)}} | {{"app"}}
class Hide:
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        if top not in allowed and top not in sys.stdlib_module_names and not top.startswith("_"):
            raise ModuleNotFoundError(f"No module named {{top!r}}", name=top)
sys.meta_path.insert(0, Hide())
from app.cli.main import run
sys.argv[0] = "cairn"
run()
"""


@pytest.mark.parametrize("command", ["up", "demo", "worker", "migrate"])
def test_a_light_install_says_which_extra_a_command_needs(light_install: str, command: str) -> None:
    done = python(light_install, command)
    assert done.returncode == 2, done.stderr
    assert f"`cairn {command}` needs" in done.stderr
    assert "uv pip install 'cairn[" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "arguments", [["ls"], ["submit", "README.md"], ["watch", "1"], ["dataset", "ls"], ["download", "1"]]
)
def test_a_light_install_runs_the_client(light_install: str, arguments: list[str]) -> None:
    done = python("import os; os.environ['CAIRN_URL'] = 'http://127.0.0.1:1'\n" + light_install, *arguments)
    assert done.returncode in (1, 3), done.stderr
    assert "Traceback" not in done.stderr
    assert ("cannot be reached" in done.stderr) == (arguments[0] != "submit")
