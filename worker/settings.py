"""Settings of a worker, from the environment (`CAIRN_…`)."""

import os
import socket
from pathlib import Path
from typing import Annotated

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict


class WorkerSettings(BaseSettings):
    """Every setting has a default that suits a worker beside its server; `docs/settings.md` lists them all."""

    model_config = SettingsConfigDict(env_prefix="CAIRN_")

    data_dir: Path = Field(
        default=Path("~/.cairn").expanduser(), description="Where the cache, run directories and tokens live."
    )
    api_url: str = Field(default="http://127.0.0.1:8765", description="Address of the control plane.")
    worker_token: SecretStr | None = Field(default=None, description="Token that lets this worker claim jobs.")
    worker_token_file: Path | None = Field(
        default=None, description="File with that token; default: `worker.token` in the data directory."
    )
    redis_url: str | None = Field(
        default=None, description="Broker in redis-py's form; default: the private Redis in the data directory."
    )
    worker_name: str | None = Field(default=None, description="Speaking name; default: host:pid.")
    engines: Annotated[list[str] | None, NoDecode] = Field(
        default=None, description="Engines to serve, separated by commas; default: those whose library is installed."
    )
    slots: int | None = Field(
        default=None, ge=1, description="Trainings at the same time; default: one per GPU, or one on a CPU."
    )
    threads: int | None = Field(
        default=None, ge=1, description="CPU threads of a trainer; default: the CPUs divided by the slots."
    )
    cache_dir: Path | None = Field(
        default=None, description="Cache of datasets; default: `cache` in the data directory."
    )
    cache_bytes: int = Field(
        default=50 * 2**30, ge=0, description="Size the cache is trimmed to; what is in use stays."
    )
    work_dir: Path | None = Field(default=None, description="Run directories; default: `work` in the data directory.")
    errand_memory_bytes: int = Field(
        default=2 << 30,
        ge=1 << 28,
        description="Memory that looking into a base model may take, beyond twice the size of its file.",
    )
    presence_s: float = Field(
        default=10.0,
        gt=0,
        description="Seconds at most between the messages that say a worker is alive: never over a third of a lease.",
    )
    stop_grace_s: float = Field(
        default=60.0, ge=0, description="Seconds a trainer has to write its checkpoint before it is killed."
    )
    upload_bytes_per_s: int | None = Field(
        default=None,
        ge=1,
        description="Bytes per second that a training's uploads take at most while it trains; default: no limit.",
    )
    flush_s: float = Field(
        default=60.0, ge=0, description="Seconds a worker that shuts down takes to deliver what is left."
    )

    @field_validator("engines", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        if isinstance(value, str):
            return [name.strip() for name in value.split(",") if name.strip()] or None
        return value

    @property
    def token(self) -> str:
        """Return the worker's token.

        Raises:
            ValueError: There is none, or its file cannot be read.
        """
        if self.worker_token is not None:
            return self.worker_token.get_secret_value()
        path = self.worker_token_file or self.data_dir / "worker.token"
        try:
            token = path.read_text().strip()
        except OSError as error:
            raise ValueError(
                f"No worker token: {path} cannot be read ({error.strerror}). "
                "Set CAIRN_WORKER_TOKEN or CAIRN_WORKER_TOKEN_FILE; `cairn up` writes one on its first start."
            ) from error
        if not token:
            raise ValueError(f"No worker token: {path} is empty. `cairn up` writes one on its first start.")
        return token

    @property
    def broker_url(self) -> str:
        """Return the broker's URL in Celery's form: a unix socket is `redis+socket://`."""
        url = self.redis_url or f"unix://{self.data_dir / 'run' / 'redis.sock'}"
        return f"redis+socket://{url.removeprefix('unix://')}" if url.startswith("unix://") else url

    @property
    def cache_path(self) -> Path:
        """Return where the cache is."""
        return (self.cache_dir or self.data_dir / "cache").absolute()

    @property
    def work_path(self) -> Path:
        """Return where run directories are made."""
        return (self.work_dir or self.data_dir / "work").absolute()

    @property
    def name(self) -> str:
        """Return what people read on the workers page."""
        return self.worker_name or f"{socket.gethostname()}:{os.getpid()}"

    def threads_for(self, slots: int) -> int | None:
        """Return the CPU threads of one trainer among `slots`; None means all cores."""
        if self.threads is not None or slots == 1:
            return self.threads
        return max(1, len(os.sched_getaffinity(0)) // slots)
