"""Lists as parameters: what goes in comes out, whatever it holds, and as the driver itself would have written it."""

from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from psycopg.adapt import PyFormat, Transformer
from psycopg.types.array import ListDumper
from sqlalchemy import text
from sqlalchemy.exc import DataError

from vault_core.list_dumper import QuickListDumper

ODD = ["", "null", "NULL", "a,b", "{}", '"', "\\", "\\x41", " ", "\u2003", "é", "'", "a\nb", "😀", "%s", None]
MOMENTS = [datetime(2026, 11, 24, 9, 30, 1, 5, UTC), datetime(1999, 1, 1, tzinfo=timezone(timedelta(hours=3))), None]


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        ("text", ODD),
        ("uuid", [UUID(int=0), None, UUID(int=2**128 - 1)]),
        ("bigint", [-(2**63), None, 0, 2**63 - 1]),
        ("integer", [1, 2]),
        ("bytea", [b"", b"\x00\xff", b'\\"{},', None]),
        ("boolean", [True, None, False]),
        ("timestamptz", MOMENTS),
        ("date", [date(1, 1, 1), None, date(9999, 12, 31)]),
        ("numeric", [Decimal("1.50"), None]),
        ("text", [None, None]),
        ("text", []),
    ],
)
async def test_a_list_comes_back_as_it_went(runtime, kind, values):
    async with runtime.engine.connect() as connection:
        raw = (await connection.get_raw_connection()).driver_connection
        assert raw.adapters.get_dumper(list, PyFormat.AUTO) is QuickListDumper
        elements = text(f"SELECT v FROM unnest(CAST(:values AS {kind}[])) WITH ORDINALITY AS l(v, n) ORDER BY n")  # noqa: S608
        found = await connection.execute(elements, {"values": values})
        assert list(found.scalars()) == values


async def test_a_text_that_postgresql_cannot_keep_is_refused_as_by_the_driver(runtime):
    async with runtime.engine.connect() as connection:
        with pytest.raises(DataError, match="NUL"):
            await connection.execute(text("SELECT CAST(:values AS text[])"), {"values": ["fine", "a\0b"]})


def written(dumper: type[ListDumper], values: list[object]) -> object:
    return dumper(list, Transformer()).upgrade(values, PyFormat.TEXT).dump(values)


@given(st.lists(st.one_of(st.none(), st.text(st.characters(codec="utf-8", exclude_characters="\0")))))
def test_what_is_written_of_texts_means_what_the_driver_writes(values):
    assert unquoted(bytes(written(QuickListDumper, values))) == unquoted(bytes(written(ListDumper, values)))


def unquoted(literal: bytes) -> list[str | None]:
    """The elements of an array literal, by PostgreSQL's rules."""
    inside, elements, element, quoted = literal.decode()[1:-1], [], "", False
    was_quoted, place = False, 0
    while place < len(inside):
        sign = inside[place]
        if quoted and sign == "\\":
            place += 1
            element += inside[place]
        elif sign == '"':
            quoted, was_quoted = not quoted, True
        elif sign == "," and not quoted:
            elements.append(element if was_quoted or element != "NULL" else None)
            element, was_quoted = "", False
        else:
            element += sign
        place += 1
    return [*elements, element if was_quoted or element != "NULL" else None] if inside else []
