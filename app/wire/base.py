"""The base class of everything that travels."""

from pydantic import BaseModel, ConfigDict


class Message(BaseModel):
    """A message whose unknown keys are errors: a mistyped option must never be ignored in silence."""

    model_config = ConfigDict(extra="forbid")


class View(BaseModel):
    """An answer of the server. Clients ignore keys they do not know, so an older client reads a newer server."""

    model_config = ConfigDict(extra="ignore")
