"""What `cairn up` and `cairn migrate` print and take."""

import signal
import threading
import webbrowser
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from pydantic import ValidationError
from rich.console import Console
from rich.markup import escape

from app.settings import Settings
from app.up.house import House, bound_port, opened, prepare_database
from app.up.keeper import Hopeless, Keeper
from app.up.services import CannotStart, Plan

LOOPBACK = ("127.0.0.1", "localhost", "::1")

console = Console(highlight=False, soft_wrap=True)


def up(
    *,
    data_dir: Path | None = None,
    host: str | None = None,
    port: int | None = None,
    worker: bool = True,
    slots: int | None = None,
    open_browser: bool = False,
) -> int:
    """Run Cairn until SIGINT or SIGTERM. Return the exit code."""
    try:
        plan = make_plan(data_dir=data_dir, host=host, port=port, worker=worker, slots=slots)
        with signalled() as stop, opened(plan, say) as house:
            stop.keeper, stop.breaks_off = house.keeper, False
            greet(house)
            if open_browser:
                webbrowser.open(house.login_link())
            serve(house, stop)
    except (CannotStart, Hopeless) as error:
        complain(error)
        return 1
    except Interrupted:
        return 130
    console.print("Stopped.")
    return 0


def make_plan(
    *,
    data_dir: Path | None = None,
    host: str | None = None,
    port: int | None = None,
    worker: bool = True,
    slots: int | None = None,
) -> Plan:
    """Return what to start: options over environment over defaults. Port 0 becomes a free one.

    Raises:
        CannotStart: a setting in the environment is wrong.
    """
    options = {"data_dir": data_dir, "host": host, "port": port}
    try:
        settings = Settings(**{name: value for name, value in options.items() if value is not None})  # type: ignore[arg-type]
    except ValidationError as error:
        first = error.errors()[0]
        name = "CAIRN_" + "_".join(str(part) for part in first["loc"]).upper()
        raise CannotStart(f"{name} is wrong: {first['msg']}.", "docs/settings.md lists all settings.") from error
    changes: dict[str, object] = {"data_dir": settings.data_dir.expanduser().absolute()}
    if settings.port == 0:
        changes["port"] = bound_port(settings.host, 0)
    return Plan(settings.model_copy(update=changes), worker=worker, slots=slots)


def say(name: str, what: str) -> None:
    """Print one line about a part."""
    console.print(f"  [bold]{name:<7}[/] {escape(what)}")


def complain(error: CannotStart | Hopeless) -> None:
    """Print why Cairn does not start."""
    console.print(f"[red bold]error[/]  {escape(str(error))}")
    if isinstance(error, CannotStart) and error.hint:
        console.print(f"  [cyan]→[/] {escape(error.hint)}")


def greet(house: House) -> None:
    """Print where the dashboard is and how to get in."""
    settings = house.plan.settings
    console.print(f"\nDashboard  [bold]{escape(house.login_link())}[/]")
    console.print("           [dim](signs one browser in; good for 15 minutes, once)[/]")
    console.print(f"Data       {escape(str(settings.data_dir))}  [dim](token in user.token, logs in logs/)[/]")
    if settings.host not in LOOPBACK:
        console.print(
            f"[yellow bold]warning[/]    {escape(settings.host)} is reachable from other machines, over plain HTTP. "
            "Put a proxy with TLS before it."
        )
    console.print("Ctrl-C stops everything; running jobs write a checkpoint and go on at the next start.\n")


class Interrupted(Exception):
    """A signal came while the main thread was at work."""


class Stop:
    """What the signals do: the first asks to stop, a second one no longer waits."""

    def __init__(self) -> None:
        self.asked = threading.Event()
        self.keeper: Keeper | None = None
        """Whose parts a second signal kills; None while they start."""
        self.breaks_off = True
        """Whether a signal ends what the main thread does by raising Interrupted there."""

    def handle(self, number: int, frame: FrameType | None) -> None:
        """Handle a signal."""
        if self.asked.is_set():
            if self.keeper:
                self.keeper.hurry()
            return
        self.asked.set()
        console.print("\nStopping: the worker first, so that jobs write their checkpoints. Ctrl-C again to hurry.")
        if self.breaks_off:
            raise Interrupted


@contextmanager
def signalled() -> Iterator[Stop]:
    """Route SIGINT, SIGTERM and (unless `nohup` said otherwise) SIGHUP to a `Stop` for a while."""
    stop = Stop()
    numbers = [signal.SIGINT, signal.SIGTERM]
    numbers += [signal.SIGHUP] if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN else []
    earlier = {number: signal.signal(number, stop.handle) for number in numbers}
    try:
        yield stop
    finally:
        for number, handler in earlier.items():
            signal.signal(number, handler)


def serve(house: House, stop: Stop) -> None:
    """Wait until a signal comes, or supervision itself fails."""
    while not stop.asked.wait(0.5):
        house.keeper.check()


def migrate(data_dir: Path | None = None) -> None:
    """Bring the database to this version's schema."""
    try:
        settings = make_plan(data_dir=data_dir).settings
        settings.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        prepare_database(settings)
    except CannotStart as error:
        complain(error)
        raise SystemExit(1) from error
    console.print(f"The database is up to date: {escape(_without_password(settings.effective_database_url))}")


def _without_password(url: str) -> str:
    from sqlalchemy import make_url

    return make_url(url).render_as_string(hide_password=True)
