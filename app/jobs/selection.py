"""Which metrics a request asks for, and of which steps: the same of a job and of a group."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Step = Annotated[int | None, Field(ge=0, lt=2**62)]


class Selection(BaseModel):
    """Which metrics, and which steps of them."""

    model_config = ConfigDict(extra="forbid")

    keys: str | None = Field(default=None, description="Separated by commas; `val/*` stands for many. Default: all.")
    from_step: Step = None
    to_step: Step = None

    @property
    def key_list(self) -> list[str] | None:
        """The keys asked for; None: all."""
        return None if self.keys is None else [key.strip() for key in self.keys.split(",") if key.strip()]
