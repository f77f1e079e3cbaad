"""`cairn freeze`: submits the job, watches it, and says what was proven of the frozen files."""

from typing import Any

from rich.markup import escape

from app.cli.api import Api
from app.cli.downloading import Target
from app.cli.screen import out, print_json
from app.cli.working import Wanted, work
from app.wire.jobs import JobDetail

MODEL, PAPER = ".pth", ".json"


def wanted(config: dict[str, Any], *, name: str | None, target: Target | None, new: bool) -> Wanted:
    """Return the submission: what is frozen here already is the answer, unless it is to be done again."""
    options = {} if new else {"on_existing": "reuse"}
    return Wanted("freeze", config, name, target, options, wants=lambda remote: remote.name.endswith(MODEL))


def freeze(wanted: Wanted, *, detach: bool, as_json: bool) -> None:
    """Submit it; unless told to leave, watch it to its end and print what is known of the files. Raises Failure."""

    def show(api: Api, job: JobDetail) -> None:
        papers = [file.name for file in job.files if file.name.endswith(PAPER)]
        found = [api.get(f"/jobs/{job.id}/files/{name}") for name in papers]
        if as_json:
            print_json({"job": job.id, "files": found})
            return
        for about in found:
            _print(about)

    work(wanted, show, detach=detach, as_json=as_json)


def _print(about: dict[str, Any]) -> None:
    out().print(f"[bold]{escape(about['file'])}[/]  of {escape(about['model'])}  [dim]sha256 {about['sha256'][:12]}[/]")
    out().print(f"  [dim]weights[/]  all {about['tensors']} tensors are the checkpoint's, bit for bit")
    if found := about["same_frame"]:
        numbers = f"{found['energy_difference']:.1e} eV and {found['force_difference']:.1e} eV/Å"
        out().print(f"  [dim]numbers[/]  of a frame of {found['atoms']} atoms differ by at most {numbers}")
