"""The ledger's refusals inside PostgreSQL, as errors of vault_core/errors.py."""

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from sqlalchemy.exc import DBAPIError

from vault_core.errors import Conflict, InvalidInput, PeriodClosed

_MALFORMED = "PV001"  # raised by vault_core/ledger/functions/
_TAKEN = "PV002"
_CLOSED = "PV003"


@contextmanager
def ledger_refusals(doing: str) -> Iterator[None]:
    """Turns a refusal of the ledger's functions into InvalidInput, Conflict or PeriodClosed, naming what was being done.

    The database transaction is over by then; whoever wants to go on starts a new one. Other database errors pass unchanged.
    """
    try:
        yield
    except DBAPIError as error:
        cause = error.orig
        if not isinstance(cause, psycopg.Error):
            raise
        message = f"{doing}: {cause.diag.message_primary or cause}"
        malformed = psycopg.errors.CheckViolation | psycopg.errors.NotNullViolation | psycopg.DataError  # the last: out of bounds
        if cause.sqlstate == _MALFORMED or isinstance(cause, malformed):
            raise InvalidInput(message) from error
        if cause.sqlstate == _TAKEN or isinstance(cause, psycopg.errors.UniqueViolation):
            raise Conflict(message) from error
        if cause.sqlstate == _CLOSED:
            raise PeriodClosed(message) from error
        raise
