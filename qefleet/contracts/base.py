"""What every contract has in common: frozen, strict about names, small on the wire."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, StringConstraints

Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
"""SHA-256 in hexadecimal of the bytes that it names; the key of `artifacts`."""


class Model(BaseModel):
    """A value that crosses a process boundary.

    Unknown fields are refused, so that a misspelt option is an error and not a default.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
