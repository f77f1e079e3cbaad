"""`cairn gc|verify|backup|restore|upgrade`: keeping the store in order, and all of it safe."""

from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any

import typer

from app.cli.failures import FAILED, usage
from app.cli.options import DataDir, Json

Directory = Annotated[Path, typer.Argument(metavar="DIR", help="The backup's directory.", file_okay=False)]
FOLLOW_S = 0.5


def gc(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be removed.")] = False,
    json: Json = False,
) -> None:
    """Remove what nothing needs any more from the server's store."""
    from app.cli.api import UPLOAD_TIMEOUT, connect, view
    from app.cli.screen import out, print_json, size, table
    from app.wire.maintenance import GcReport

    with connect() as api:
        found = api.post("/maintenance/gc", json={"dry_run": dry_run}, timeout=UPLOAD_TIMEOUT)
    if json:
        print_json(found)
        return
    report = view(GcReport, found)
    rows = table("what", "number", "size", right=("number", "size"))
    for label, one in (
        ("files that nothing refers to", report.unused),
        ("files that the database does not know", report.unknown),
        ("statistics that no job of these days uses", report.artifacts),
        ("interrupted uploads", report.leftovers),
    ):
        rows.add_row(label, f"{one.count:,}", size(one.size))
    out().print(rows)
    out().print(f"{size(report.size)} {'would be' if dry_run else 'are'} freed.")
    if report.quarantined.count:
        out().print(
            f"{report.quarantined.count} damaged files ({size(report.quarantined.size)}) are kept in quarantine."
        )


def verify(
    quick: Annotated[bool, typer.Option("--quick", help="Only whether every file is there with its size.")] = False,
    json: Json = False,
) -> None:
    """Hash every file of the server's store again, and say what is damaged and what it was used for."""
    from app.cli.api import connect, view
    from app.cli.screen import print_json
    from app.wire.maintenance import VerificationView

    with connect() as api:
        found = _followed(api, api.post("/maintenance/verify", json={"quick": quick}))
    if json:
        print_json(found)
    else:
        _print_verification(view(VerificationView, found))
    if found["damaged"] or found["state"] != "done":
        raise typer.Exit(FAILED)


def _followed(api: Any, begun: Any) -> Any:
    """Show a bar until a verification is over; return it as it then is."""
    import time

    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    from app.cli.screen import err

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=err(), transient=True, disable=not err().is_terminal) as progress:
        task = progress.add_task("verifying", total=begun["total_bytes"])
        while begun["state"] == "running":
            time.sleep(FOLLOW_S)
            begun = api.get(f"/maintenance/verify/{begun['id']}")
            progress.update(task, completed=begun["checked_bytes"])
    return begun


def _print_verification(run: Any) -> None:
    from rich.markup import escape

    from app.cli.screen import err, out, size

    for blob in run.damaged:
        out().print(
            f"[red bold]damaged[/] {blob.sha256[:16]}  {escape(blob.problem)}, {size(blob.size)}", soft_wrap=True
        )
        for use in blob.uses:
            out().print(f"  {escape(use.words)}", soft_wrap=True)
    for blob in run.healed:
        words = ", ".join(use.words for use in blob.uses)
        out().print(f"[green]healed[/]  {blob.sha256[:16]}  {escape(words)}", soft_wrap=True)
    what = "present, with its size" if run.quick else "hashed again"
    good = run.checked_blobs - len(run.damaged)
    out().print(f"{good:,} of {run.total_blobs:,} files are good ({size(run.checked_bytes)}, each {what}).")
    if run.damaged:
        err().print("  [cyan]→[/] Damaged files are kept aside and not used. Uploading the same file again heals it.")
    if run.problem:
        err().print(f"[red bold]error[/] it ended early: {escape(run.problem)}")


def backup(
    directory: Directory,
    link: Annotated[
        bool, typer.Option("--link", help="Hard links instead of copies, where blobs lie on the same file system.")
    ] = False,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Back up database, files and keys of the server on this machine, while it runs."""
    raise typer.Exit(_server("backup").backup(directory, link=link, data_dir=data_dir, as_json=json))


def restore(
    directory: Directory,
    force: Annotated[bool, typer.Option("--force", help="Replace all data that are there, for good.")] = False,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Make a server on this machine of a backup. Stop the server first."""
    raise typer.Exit(_server("restore").restore(directory, force=force, data_dir=data_dir, as_json=json))


def upgrade(
    directory: Annotated[
        Path | None, typer.Option("--backup", help="Where the backup goes [default: DATA_DIR/backups/…].")
    ] = None,
    data_dir: DataDir = None,
) -> None:
    """Bring the database to this version's schema, after a backup. Stop the server first."""
    raise typer.Exit(_server("upgrade").upgrade(directory, data_dir=data_dir))


def _server(command: str) -> ModuleType:
    try:
        return import_module("app.up.safekeeping")
    except ModuleNotFoundError as error:
        raise usage(
            f"`cairn {command}` needs {error.name}, which is not installed.",
            code="extra-missing",
            hint="uv pip install 'cairn[server]'",
        ) from error
