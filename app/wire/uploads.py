"""What a client sends and reads about files that it uploads in pieces."""

from pydantic import Field

from app.wire.base import Message, View

UPLOAD_PATTERN = r"^[0-9a-f]{64}-[1-9][0-9]{0,17}$"
"""An upload's name: the SHA-256 and the size of the file that it is to become, `SHA256-SIZE`."""


class UploadView(View):
    """How much of an upload has arrived; something can be made of it once that is all."""

    upload: str = Field(description="`SHA256-SIZE`, the file that it is to become.")
    received: int = Field(description="Bytes that are there: the next piece begins here.")
    size: int


class UploadedData(Message):
    """A data file of a submission that was uploaded in pieces before."""

    upload: str = Field(pattern=UPLOAD_PATTERN)
    filename: str = Field(min_length=1, max_length=1000, description="What it is called: names the dataset.")
