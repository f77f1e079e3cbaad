"""The base class of everything that travels."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
"""Digest under which bytes are stored. It becomes part of a path, so nothing else may pass for one."""
Md5 = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
MAX_NAME = 120
"""Longest name of a job or a group, in characters."""


class Message(BaseModel):
    """A message whose unknown keys are errors: a mistyped option must never be ignored in silence."""

    model_config = ConfigDict(extra="forbid")


class View(BaseModel):
    """An answer of the server. Clients ignore keys they do not know, so an older client reads a newer server."""

    model_config = ConfigDict(extra="ignore")
