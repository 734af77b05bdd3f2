"""Storing deliveries as they come in: many in one statement, durable when it returns.

The one place that talks to the psycopg connection under the engine: a delivery is acknowledged only after its commit, so what
this costs a delivery is what the receiver can carry (benchmarks/callback_acknowledgement.py).
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import cast
from uuid import UUID

import orjson
import psycopg
from sqlalchemy.ext.asyncio import AsyncEngine

from vault_core.fault_points import reach
from vault_core.inbox.delivery import TOPIC_OF_PURPOSE, sealed_body_binding
from vault_core.secrets import Sealer

# One round trip and, in autocommit, one flush to disk. The conflict clause makes a repeat after a broken connection harmless:
# whether the first try was committed or not, the row is there once.
_STORE = b"""
    INSERT INTO inbound_events (id, partner_id, purpose, topic, received_at, source_ip, content_type, path_reference, headers,
                                body_sealed, body_bytes, parsed, next_sweep_at)
    SELECT id, partner_id, purpose, topic, received_at, source_ip, content_type, NULLIF(path_reference, ''), headers::jsonb,
           body_sealed, body_bytes, parsed, received_at + %b
    FROM unnest(%b::uuid[], %b::uuid[], %b::text[], %b::text[], %b::timestamptz[], %b::text[], %b::text[], %b::text[],
                %b::text[], %b::bytea[], %b::int4[], %b::bool[])
         AS new (id, partner_id, purpose, topic, received_at, source_ip, content_type, path_reference, headers, body_sealed,
                 body_bytes, parsed)
    ON CONFLICT (id) DO NOTHING
"""
_NO_HEADERS = "{}"


@dataclass(slots=True)
class Arrival:
    """One delivery as the edge took it. `body` is in clear here and sealed on its way to disk: keep it out of logs.

    `headers` are only those that matter, without NUL characters; `content_type` and `source_ip` likewise.
    """

    id: UUID
    partner_id: UUID
    purpose: str
    received_at: datetime
    source_ip: str
    content_type: str
    path_reference: str | None
    headers: Mapping[str, str]
    body: bytes
    parsed: bool

    def __repr__(self) -> str:
        return f"Arrival({self.id}, {self.purpose}, {len(self.body)} bytes)"


class DeliveryStore:
    """A connection that stores deliveries. Not to be shared between tasks; after an error it must be opened anew."""

    def __init__(self, connection: psycopg.AsyncConnection[tuple[object, ...]], sealer: Sealer, sweep_after: timedelta) -> None:
        self._connection = connection
        self._sealer = sealer
        self._sweep_after = sweep_after

    async def store(self, arrivals: Sequence[Arrival]) -> None:
        """Commits all of `arrivals` in one statement; when it returns they are on disk. Repeating the same ids does nothing.

        Raises psycopg.Error and then none or all of them are stored (a lost connection cannot say which).
        """
        seal = self._sealer.seal
        reach("before commit", self.store)
        await self._connection.execute(
            _STORE,
            (
                self._sweep_after,
                [arrival.id for arrival in arrivals],
                [arrival.partner_id for arrival in arrivals],
                [arrival.purpose for arrival in arrivals],
                [TOPIC_OF_PURPOSE[arrival.purpose] for arrival in arrivals],
                [arrival.received_at for arrival in arrivals],
                [arrival.source_ip for arrival in arrivals],
                [arrival.content_type for arrival in arrivals],
                [arrival.path_reference or "" for arrival in arrivals],
                [orjson.dumps(arrival.headers).decode() if arrival.headers else _NO_HEADERS for arrival in arrivals],
                [seal(arrival.body, bound_to=sealed_body_binding(arrival.id)) for arrival in arrivals],
                [len(arrival.body) for arrival in arrivals],
                [arrival.parsed for arrival in arrivals],
            ),
            prepare=True,
        )
        reach("after commit", self.store)


@asynccontextmanager
async def open_delivery_store(engine: AsyncEngine, sealer: Sealer, *, sweep_after: timedelta) -> AsyncIterator[DeliveryStore]:
    """A DeliveryStore on a connection of `engine`'s own. Left by an exception, the connection is thrown away, not reused."""
    async with engine.connect() as connection:
        await connection.execution_options(isolation_level="AUTOCOMMIT")
        raw = await connection.get_raw_connection()
        driver = cast("psycopg.AsyncConnection[tuple[object, ...]]", raw.driver_connection)
        try:
            yield DeliveryStore(driver, sealer, sweep_after)
        except BaseException:
            await connection.invalidate()
            raise
