"""How many callbacks a second the receiver makes durable and acknowledges, beside the least that could be done.

The ceiling is a bare ASGI app on the same server that appends each body to a file and flushes it in groups
(benchmarks/parts/bare_acknowledger.py). Both get the same load in turns of the same run, so that the ratio says what the
receiver costs and not how fast the machine is. The receiver stores in a real PostgreSQL with fsync on and publishes to a real
Kafka meanwhile; afterwards every acknowledged callback is counted in the database. The bar is 0.25 of the ceiling.
"""

import base64
import json
import os
import random
import statistics
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

from sqlalchemy import create_engine, text

from benchmarks.parts.bench_report import Figure, Ratio, arguments, publish
from benchmarks.parts.customer_payments import http_post
from benchmarks.parts.post_load import Measured, post_for
from benchmarks.parts.served import RECEIVER, broker, served
from local_stack.embedded_postgres import ensure_databases, temporary_postgres
from vault_core.database import APP_ROLE, open_owner_engine
from vault_core.schema import migrate
from vault_core.secrets import Sealer

NAME = "callback_acknowledgement"
CEILING = "bare ASGI app with group fsync"
_KEY = os.urandom(32)
_PARTNER = UUID("01890000-0000-7000-8000-000000000001")
_ADD_PARTNER = text(
    """
    INSERT INTO partners (id, name, display_name, mifos_url, mifos_tenant, mifos_user, mpesa_url, mpesa_initiator, b2c_short_code,
                          c2b_short_code, sms_url, sms_user, sms_sender, next_poll_at, created_at)
    VALUES (:id, 'alpha', 'Alpha', 'http://127.0.0.1:1/', 'default', 'u', 'http://127.0.0.1:1', 'i', '600001', '600002',
            'http://127.0.0.1:1', 'u', 'ALPHA', now(), now())
    """
)


def main() -> None:
    """Runs the benchmark from the command line."""
    parser = arguments(__doc__)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=6.0, help="measured time of one turn")
    parser.add_argument("--turns", type=int, default=5, help="turns of each of the two")
    parser.add_argument("--no-kafka", action="store_true", help="leave Kafka out (to see what publishing costs)")
    options = parser.parse_args()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pvb")))
        kafka = "127.0.0.1:1" if options.no_kafka else stack.enter_context(broker(folder / "kafka"))
        (folder / "pg").mkdir()
        database = stack.enter_context(temporary_postgres(folder / "pg", durable=True))
        ensure_databases(database)
        token = _prepare(database.url("vault"))
        environment = {
            "VAULT_DATABASE_URL": database.url("vault", user=APP_ROLE),
            "VAULT_KAFKA_BOOTSTRAP": kafka,
            "VAULT_MASTER_KEY": f"bench:{base64.b64encode(_KEY).decode()}",
        }
        receiver = stack.enter_context(served(RECEIVER, environment, folder / "receiver.log"))
        bare = stack.enter_context(
            served("benchmarks.parts.bare_acknowledger:application", {"BARE_FILE": str(folder / "bare")}, folder / "bare.log")
        )
        requests = _requests(token)
        turns: dict[str, list[Measured]] = {"bare": [], "receiver": []}
        for _ in range(options.turns):
            for name, port in (("bare", bare), ("receiver", receiver)):
                turns[name].append(
                    post_for(port, requests, connections=options.connections, warm_up=1.5, seconds=options.seconds)
                )
        _require_stored(database.url("vault"), sum(turn.acknowledged_ever for turn in turns["receiver"]))
    _report(turns, options.connections, options.json)


def _report(turns: dict[str, list[Measured]], connections: int, json_file: Path | None) -> None:
    rate = {name: statistics.median(turn.rate for turn in measured) for name, measured in turns.items()}
    p99 = {name: statistics.median(turn.percentile(0.99) for turn in measured) for name, measured in turns.items()}
    p50 = {name: statistics.median(turn.percentile(0.5) for turn in measured) for name, measured in turns.items()}
    refused = sum(turn.refused for turn in turns["receiver"])
    figures = [
        Figure("durable acknowledgements", rate["receiver"], "1/s"),
        Figure("durable acknowledgements of the ceiling", rate["bare"], "1/s"),
        Figure("median latency", p50["receiver"] * 1000, "ms"),
        Figure("p99 latency", p99["receiver"] * 1000, "ms"),
        Figure("p99 latency of the ceiling", p99["bare"] * 1000, "ms"),
        Figure("not acknowledged", refused, "requests"),
        Figure("connections", connections, "connections"),
    ]
    ratios = [
        Ratio("durable acknowledgements", _by_turn(turns, lambda turn: turn.rate), CEILING),
        Ratio("p99 latency", _by_turn(turns, lambda turn: turn.percentile(0.99)), CEILING),
    ]
    publish(NAME, figures, ratios, json_file)


def _by_turn(turns: dict[str, list[Measured]], figure: Callable[[Measured], float]) -> float:
    """The median of the ratios of turns next to each other, so that what else the machine did in those seconds counts little."""
    pairs = zip(turns["receiver"], turns["bare"], strict=True)
    return statistics.median(figure(receiver) / figure(bare) for receiver, bare in pairs)


def _prepare(database_url: str) -> str:
    """Migrates, and adds a partner with one callback token, which is returned."""
    owner = open_owner_engine(database_url)
    migrate(owner, now=datetime.now(UTC))
    sealer = Sealer([("bench", _KEY)])
    token = sealer.callback_token("bench")
    with owner.begin() as connection:
        connection.execute(_ADD_PARTNER, {"id": _PARTNER})
        connection.execute(
            text("INSERT INTO callback_tokens (token_hash, partner_id, purpose) VALUES (:hash, :partner, 'c2b_confirmation')"),
            {"hash": sealer.token_hash(token), "partner": _PARTNER},
        )
    owner.dispose()
    return token


def _requests(token: str) -> list[bytes]:
    """A thousand C2B confirmations, as whole HTTP requests."""
    chance = random.Random(7)
    made = []
    for _ in range(1000):
        body = json.dumps(
            {
                "TransactionType": "Pay Bill",
                "TransID": "".join(chance.choices("ABCDEFGHJKLMNPQRSTUVWXYZ0123456789", k=10)),
                "TransTime": "20261124093000",
                "TransAmount": f"{chance.randint(10, 70_000)}.00",
                "BusinessShortCode": "600002",
                "BillRefNumber": f"{chance.randint(0, 10**9):09d}",
                "InvoiceNumber": "",
                "OrgAccountBalance": "49197.00",
                "ThirdPartyTransID": "",
                "MSISDN": "2547 ***** 126",
                "FirstName": "JANE",
            }
        ).encode()
        made.append(http_post(f"/i/{token}", body))
    return made


def _require_stored(database_url: str, acknowledged: int) -> None:
    engine = create_engine(database_url)
    with engine.connect() as connection:
        stored = connection.execute(text("SELECT count(*) FROM inbound_events")).scalar_one()
    engine.dispose()
    if stored < acknowledged:
        raise SystemExit(f"{acknowledged} callbacks were acknowledged and {stored} are stored: the figures are worth nothing")


if __name__ == "__main__":
    main()
