"""What `cairn backup`, `cairn restore` and `cairn upgrade` do and print."""

import json
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

import migrations
from app.db import make_engine
from app.errors import AppError
from app.maintenance import backup as backups
from app.maintenance import restore as restoring
from app.maintenance.collecting import Tell
from app.settings import Settings
from app.up.command import complain, console, make_plan
from app.up.house import locked, make_data_dir
from app.up.services import CannotStart
from app.wire.problems import ErrorBody, Problem


def backup(directory: Path, *, link: bool = False, data_dir: Path | None = None, as_json: bool = False) -> int:
    """Back everything up. Return the exit code: 1 also when files of the store were damaged already."""
    try:
        settings = make_plan(data_dir=data_dir).settings
        made = _backed_up(settings, directory, link=link)
    except (CannotStart, AppError) as error:
        return _failed(error, as_json=as_json)
    if as_json:
        _print_json(made.model_dump(mode="json"))
        return 1 if made.missing else 0
    console.print(
        f"{made.rows:,} rows and {made.blobs:,} files ({_size(made.size)}; {made.copied:,} of them new) are in "
        f"{escape(str(directory))}."
    )
    for digest in made.missing:
        console.print(f"[red bold]damaged[/] {digest} is missing or damaged in the store, and not in the backup.")
    if made.missing:
        console.print("  [cyan]→[/] `cairn verify` says what these files are used for.")
    return 1 if made.missing else 0


def _backed_up(settings: Settings, directory: Path, *, link: bool) -> backups.Manifest:
    if _revision(settings) is None:
        raise CannotStart(
            f"There is no Cairn in {settings.data_dir}: its database has no tables.",
            "--data-dir or CAIRN_DATA_DIR name another data directory, CAIRN_DATABASE_URL another database.",
        )
    with _progress() as tell:
        return backups.backup(settings, directory, link=link, tell=tell)


def restore(directory: Path, *, force: bool = False, data_dir: Path | None = None, as_json: bool = False) -> int:
    """Restore a backup. Return the exit code: 1 also when files of the backup are damaged."""
    try:
        settings = make_plan(data_dir=data_dir).settings
        make_data_dir(settings.data_dir)
        with _stopped(settings, "restoring"), _progress() as tell:
            found = restoring.restore(settings, directory, force=force, tell=tell)
    except (CannotStart, AppError) as error:
        return _failed(error, as_json=as_json)
    lost = [*found.manifest.missing, *found.damaged]
    if as_json:
        _print_json({"rows": found.rows, "blobs": found.blobs, "damaged": lost})
        return 1 if lost else 0
    console.print(
        f"{found.rows:,} rows and {found.blobs:,} files of {found.manifest.created_at:%Y-%m-%d %H:%M} UTC are restored "
        f"into {escape(str(settings.data_dir))}."
    )
    for digest in lost:
        console.print(f"[red bold]damaged[/] {digest} is not in the backup as it should be.")
    if lost:
        console.print("  [cyan]→[/] `cairn up`, then `cairn verify`, says what these files were used for.")
    return 1 if lost else 0


def upgrade(directory: Path | None = None, *, data_dir: Path | None = None) -> int:
    """Migrate the database after a backup of it. Return the exit code."""
    try:
        settings = make_plan(data_dir=data_dir).settings
        make_data_dir(settings.data_dir)
        with _stopped(settings, "upgrading"):
            return _upgraded(settings, directory)
    except (CannotStart, AppError) as error:
        return _failed(error)


def _upgraded(settings: Settings, directory: Path | None) -> int:
    url, present, newest = settings.effective_database_url, _revision(settings), migrations.newest()
    if present == newest:
        console.print(f"The database is up to date (version {present}); nothing was changed.")
        return 0
    if present is not None:
        now = datetime.now(UTC)
        directory = directory or settings.data_dir / "backups" / f"{now:%Y%m%dT%H%M%S}-version-{present}"
        made = _backed_up(settings, directory, link=True)
        console.print(f"Backup     {escape(str(directory))}  [dim]({made.rows:,} rows, {made.blobs:,} files)[/]")
    try:
        migrations.migrate(url)
    except Exception as error:
        hint = (
            "There was nothing in it."
            if present is None
            else f"`cairn restore {directory} --force` brings back what was."
        )
        raise CannotStart(f"The database cannot be migrated: {error}", hint) from error
    console.print(f"The database is migrated from version {present or 'none'} to {newest}. Start the server again.")
    return 0


@contextmanager
def _stopped(settings: Settings, doing: str) -> Iterator[None]:
    """Hold the data directory, so that no server starts on it meanwhile. Raises CannotStart while one runs."""
    with ExitStack() as stack:
        try:
            stack.enter_context(locked(settings.data_dir, doing))
        except CannotStart as error:
            raise CannotStart(str(error), "Stop it first, then try again.") from error
        yield


def _revision(settings: Settings) -> str | None:
    """Return the version of the database's schema; None: it has none."""
    url = settings.effective_database_url
    if url.startswith("sqlite") and not Path(url.removeprefix("sqlite:///")).is_file():
        return None
    engine = make_engine(url)
    try:
        with engine.connect().execution_options(read_only=True) as connection:
            return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    except SQLAlchemyError as error:
        if "alembic_version" in str(error):
            return None
        reason = str(getattr(error, "orig", None) or error).splitlines()[0]
        raise CannotStart(f"The database cannot be read: {reason}.", "`cairn doctor` looks closer.") from error
    finally:
        engine.dispose()


def _failed(error: CannotStart | AppError, *, as_json: bool = False) -> int:
    if isinstance(error, AppError):
        problem = error.problem
    else:
        problem = Problem(code="cannot-start", message=str(error), hint=error.hint)
    if as_json:
        sys.stderr.write(ErrorBody(**problem.model_dump(), problems=[problem]).model_dump_json() + "\n")
    else:
        complain(CannotStart(problem.message, problem.hint or ""))
    return 1


@contextmanager
def _progress() -> Iterator[Tell]:
    """Show what goes on, where somebody looks on."""
    screen = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=screen, transient=True, disable=not screen.is_terminal) as progress:
        tasks: dict[str, Any] = {}

        def tell(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = progress.add_task(what, total=total or None)
            progress.update(tasks[what], completed=done, total=total or None)

        yield tell


def _print_json(value: Any) -> None:
    sys.stdout.write(json.dumps(value, indent=2) + "\n")


def _size(count: float) -> str:
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"
