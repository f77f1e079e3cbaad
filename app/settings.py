"""Settings of the control plane, from the environment (`CAIRN_…`)."""

from functools import lru_cache
from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """Every setting has a default that suits one machine; `docs/settings.md` lists them all."""

    model_config = SettingsConfigDict(env_prefix="CAIRN_")

    data_dir: Path = Field(
        default=Path("~/.cairn").expanduser(), description="Where the database, blobs, sockets and tokens live."
    )
    database_url: str | None = Field(default=None, description="SQLAlchemy URL; default: SQLite in the data directory.")
    redis_url: str | None = Field(
        default=None, description="Broker; default: a private Redis on a unix socket in the data directory."
    )
    blob_url: str | None = Field(
        default=None, description="Object store (`s3://bucket/prefix`); default: a directory in the data directory."
    )
    host: str = Field(default="127.0.0.1", description="Address the API binds to.")
    port: int = Field(default=8765, description="Port the API binds to.")
    public_url: str | None = Field(
        default=None, description="Address people reach the dashboard under, when it differs."
    )
    dataset_roots: list[Path] = Field(
        default=[], description="Directories below which datasets may be registered by path."
    )
    max_upload_bytes: int = Field(default=64 * 2**30, description="Largest upload accepted.")
    max_dataset_bytes: int = Field(default=256 * 2**30, description="Largest dataset after unpacking.")
    intake_memory_bytes: int = Field(
        default=8 * 2**30, description="Memory that reading and checking one dataset may take."
    )
    intake_s: int = Field(default=3600, description="Seconds that reading and checking one dataset may take.")
    max_config_bytes: int = Field(default=4 * 2**20, description="Largest submitted config.")
    secret_key: str | None = Field(
        default=None,
        min_length=32,
        description="Signs session cookies; default: a random one in the data directory. Several API processes on different machines need the same.",
    )
    heartbeat_s: float = Field(default=3.0, description="Seconds between heartbeats of an attempt.")
    lease_s: float = Field(
        default=30.0, description="Seconds without a heartbeat after which an attempt counts as lost."
    )
    errand_s: float = Field(
        default=300.0, description="Seconds a worker may take for an errand, such as looking into a file of weights."
    )
    plan_wait_s: float = Field(
        default=5.0,
        description="Seconds a submission waits for a worker to inspect its base and to list its model's tensors.",
    )
    reconcile_s: float = Field(
        default=5.0, description="Seconds between runs of reaper and reconciler: never over a sixth of a lease."
    )
    max_attempts: int = Field(
        default=5, description="Killed or lost executions in a row, without a newer checkpoint, that fail a job."
    )

    @property
    def effective_database_url(self) -> str:
        """Return the database's URL."""
        return self.database_url or f"sqlite:///{self.data_dir / 'cairn.db'}"

    @property
    def redis_socket(self) -> Path:
        """Return where the private Redis listens."""
        return self.data_dir / "run" / "redis.sock"

    @property
    def effective_redis_url(self) -> str:
        """Return the broker's URL in redis-py's form."""
        return self.redis_url or f"unix://{self.redis_socket}"

    @property
    def effective_public_url(self) -> str:
        """Return the address of the dashboard."""
        return (self.public_url or f"http://{self.host}:{self.port}").rstrip("/")


@lru_cache
def get_settings() -> Settings:
    """Return the settings of this process."""
    return Settings()
