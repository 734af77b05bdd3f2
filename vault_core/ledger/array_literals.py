"""Lists as PostgreSQL's own array literals, for calls that carry thousands of values.

A driver asks each element of a list what it is; here the list is known to be of one type, which takes a fraction of the time.
Pass the text where the statement says `CAST(:name AS uuid[])` and so on.
"""

from collections.abc import Iterable
from datetime import datetime
from uuid import UUID


def uuid_array(values: Iterable[UUID | None]) -> str:
    """The literal of a uuid[]."""
    return "{" + ",".join(["NULL" if value is None else f"{value.int:032x}" for value in values]) + "}"


def integer_array(values: Iterable[int]) -> str:
    """The literal of an integer[] or bigint[]."""
    return "{" + ",".join(map(str, values)) + "}"


def moment_array(values: Iterable[datetime | None]) -> str:
    """The literal of a timestamptz[]. The moments are aware."""
    return "{" + ",".join(["NULL" if value is None else value.isoformat() for value in values]) + "}"


def boolean_array(values: Iterable[bool]) -> str:
    """The literal of a boolean[]."""
    return "{" + ",".join(["t" if value else "f" for value in values]) + "}"


def text_array(values: Iterable[str]) -> str:
    """The literal of a text[], whatever the texts hold."""
    return "{" + ",".join(['"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"' for value in values]) + "}"
