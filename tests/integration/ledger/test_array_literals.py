"""What a list is to PostgreSQL when it is sent as a literal: the same list."""

from datetime import UTC, datetime, timedelta, timezone
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import create_engine, text

from vault_core.ledger.array_literals import boolean_array, integer_array, moment_array, text_array, uuid_array

ZONES = st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
MOMENTS = st.datetimes(datetime(1970, 1, 1), datetime(9000, 1, 1), timezones=ZONES)  # noqa: DTZ001 - the zones are the strategy's
LISTS = st.fixed_dictionaries(
    {
        "uuid": st.lists(st.none() | st.uuids()),
        "bigint": st.lists(st.integers(-(2**63), 2**63 - 1)),
        "timestamptz": st.lists(st.none() | MOMENTS),
        "boolean": st.lists(st.booleans()),
        "text": st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))),
    }
)
LITERAL_OF = {
    "uuid": uuid_array,
    "bigint": integer_array,
    "timestamptz": moment_array,
    "boolean": boolean_array,
    "text": text_array,
}
HARD_TEXTS = ["", "NULL", "null", "{}", 'a"b', "a\\b", "a,b", " a ", "a\nb", "\\", '"', "ñ😀"]


def test_every_list_arrives_as_it_was(database_url: str) -> None:
    engine = create_engine(database_url)
    with engine.connect() as connection:
        connection.execute(text("SET TIME ZONE 'UTC'"))

        @settings(max_examples=60, deadline=None)
        @given(lists=LISTS)
        def law(lists: dict[str, list]) -> None:
            for kind, values in lists.items():
                statement = text(f"SELECT CAST(:literal AS {kind}[])")
                assert connection.execute(statement, {"literal": LITERAL_OF[kind](values)}).scalar_one() == values

        law()
    engine.dispose()


@pytest.mark.parametrize("value", HARD_TEXTS)
def test_a_text_that_reads_like_syntax_arrives_as_it_was(database_url: str, value: str) -> None:
    engine = create_engine(database_url)
    with engine.connect() as connection:
        answer = connection.execute(text("SELECT CAST(:literal AS text[])"), {"literal": text_array([value, "x"])})
        assert answer.scalar_one() == [value, "x"]
    engine.dispose()


def test_examples() -> None:
    assert uuid_array([UUID(int=1), None]) == "{00000000000000000000000000000001,NULL}"
    assert moment_array([datetime(2026, 1, 2, 3, tzinfo=UTC)]) == "{2026-01-02T03:00:00+00:00}"
