"""The ledger's proof: every invariant recomputed from the rows, in one snapshot, trusting no guard and no stored sum."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Engine, Row, TextClause, text
from sqlalchemy.ext.asyncio import AsyncEngine

from vault_core.finding import Finding

FINDINGS_A_CHECK = 20  # the first so many; a broken ledger would list millions
SEAL_LAG = timedelta(minutes=15)  # an older unsealed transaction is a finding once sealing has begun

# Each query returns what is wrong and nothing else: columns of its own, read by the sentence beside it.
_CHECKS: Sequence[tuple[str, TextClause, str, str]] = (
    (
        "sums_to_zero",
        text(
            """
            SELECT coalesce(t.id, e.transaction_id) AS id, coalesce(sum(e.amount_cents), 0)::bigint AS cents,
                   count(e.leg) AS legs,
                   CASE WHEN t.id IS NULL THEN 'the entries have no transaction' ELSE 'legs' END AS what
            FROM ledger_transactions t FULL JOIN ledger_entries e ON e.transaction_id = t.id
            GROUP BY t.id, e.transaction_id HAVING t.id IS NULL OR count(e.leg) < 2 OR sum(e.amount_cents) <> 0 LIMIT :most
            """
        ),
        "transaction {id}",
        "{legs} legs sum to {cents} cents ({what})",
    ),
    (
        "balance_is_sum_of_entries",
        text(
            """
            SELECT a.id, coalesce(p.name, 'house') AS owner, a.code, a.shard, a.balance_cents, a.version,
                   coalesce(e.cents, 0) AS cents, coalesce(e.entries, 0) AS entries
            FROM ledger_accounts a LEFT JOIN partners p ON p.id = a.partner_id FULL JOIN (
                SELECT account_id, sum(amount_cents)::bigint AS cents, count(*) AS entries FROM ledger_entries GROUP BY account_id
            ) AS e ON e.account_id = a.id
            WHERE a.id IS NULL OR a.balance_cents <> coalesce(e.cents, 0) OR a.version <> coalesce(e.entries, 0) LIMIT :most
            """
        ),
        "{owner} {code}/{shard}",
        "account {id} says {balance_cents} cents after {version} entries; {entries} entries sum to {cents}",
    ),
    (
        "entries_chain",
        text(
            """
            SELECT * FROM (
                SELECT e.account_id, e.transaction_id, e.leg, e.account_version, e.balance_before_cents,
                       row_number() OVER account AS due_version,
                       coalesce(sum(e.amount_cents) OVER (account ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0)::bigint
                           AS due_before
                FROM ledger_entries e WINDOW account AS (PARTITION BY e.account_id ORDER BY e.account_version)
            ) AS chained
            WHERE account_version <> due_version OR balance_before_cents <> due_before LIMIT :most
            """
        ),
        "transaction {transaction_id} leg {leg}",
        "entry {account_version} of {account_id} starts from {balance_before_cents}, not {due_version} from {due_before}",
    ),
    (
        "keys",
        text(
            """
            SELECT t.id, t.key
            FROM ledger_transactions t LEFT JOIN ledger_keys k
                ON k.scope = coalesce(t.partner_id, '00000000-0000-0000-0000-000000000000') AND k.key = t.key
            CROSS JOIN LATERAL (
                SELECT string_agg(ledger_leg_bytes(a.code, e.amount_cents), ''::bytea ORDER BY a.code, e.amount_cents) AS legs
                FROM ledger_entries e JOIN ledger_accounts a ON a.id = e.account_id WHERE e.transaction_id = t.id
            ) AS body
            WHERE k.transaction_id IS DISTINCT FROM t.id
               OR k.body_hash IS DISTINCT FROM ledger_body_hash(t.kind, t.reference, t.effective_at, t.reverses, body.legs)
            LIMIT :most
            """
        ),
        "transaction {id}",
        "its key {key} is not reserved for it, or its body is not the one that was posted",
    ),
    (
        "partners_apart",
        text(
            """
            SELECT t.id, count(DISTINCT a.partner_id) AS partners
            FROM ledger_transactions t JOIN ledger_entries e ON e.transaction_id = t.id
            JOIN ledger_accounts a ON a.id = e.account_id
            WHERE a.partner_id IS NOT NULL AND a.partner_id IS DISTINCT FROM t.partner_id GROUP BY t.id LIMIT :most
            """
        ),
        "transaction {id}",
        "it moves accounts of {partners} partner(s) other than its own",
    ),
    (
        "reversed_once",
        text(
            """
            SELECT coalesce(t.id, r.reversal) AS id, coalesce(t.reverses, r.original) AS original
            FROM (SELECT id, reverses FROM ledger_transactions WHERE reverses IS NOT NULL) AS t
            FULL JOIN ledger_reversals r ON r.reversal = t.id AND r.original = t.reverses
            WHERE t.id IS NULL OR r.reversal IS NULL LIMIT :most
            """
        ),
        "transaction {id}",
        "its link to the reversed transaction {original} is missing on one side",
    ),
    (
        "held_is_sum_of_holds",
        text(
            """
            SELECT coalesce(p.name, 'house') AS owner, a.code, a.held_cents, coalesce(h.cents, 0) AS cents
            FROM ledger_accounts a LEFT JOIN partners p ON p.id = a.partner_id LEFT JOIN (
                SELECT account_id, sum(amount_cents)::bigint AS cents FROM ledger_holds WHERE state = 'held' GROUP BY account_id
            ) AS h ON h.account_id = a.id
            WHERE a.held_cents <> coalesce(h.cents, 0) LIMIT :most
            """
        ),
        "{owner} {code}",
        "{held_cents} cents are marked held; its open holds sum to {cents}",
    ),
    (
        "captures_match",
        text(
            """
            SELECT h.id, h.key, h.captured_cents, coalesce(e.cents, 0) AS cents
            FROM ledger_holds h CROSS JOIN LATERAL (
                SELECT abs(sum(e.amount_cents))::bigint AS cents FROM ledger_entries e
                WHERE e.transaction_id = h.transaction_id AND e.account_id = h.account_id
            ) AS e
            WHERE h.state = 'captured' AND h.captured_cents <> coalesce(e.cents, 0) LIMIT :most
            """
        ),
        "hold {id} ({key})",
        "{captured_cents} cents are marked captured; its transaction took {cents}",
    ),
    (
        "trial_balance",
        text("SELECT sum(balance_cents)::bigint AS cents FROM ledger_accounts HAVING sum(balance_cents) <> 0"),
        "all accounts",
        "debits exceed credits by {cents} cents",
    ),
)
_SEALS = text(
    """
    SELECT s.number, s.from_write, s.transactions, s.upto_write, d.transactions AS found,
           s.from_write = lag(s.upto_write, 1, 0::bigint) OVER chain AND s.number = row_number() OVER chain AS follows,
           s.digest = d.digest AND s.transactions = d.transactions AND s.first_transaction = d.first_transaction
               AND s.last_transaction = d.last_transaction AS digest_holds,
           s.chain = ledger_chain(lag(s.chain, 1, ''::bytea) OVER chain, s.number, s.from_write, s.upto_write, s.transactions,
                                  s.digest) AS chain_holds
    FROM ledger_seals s CROSS JOIN LATERAL ledger_digest(s.from_write, s.upto_write) AS d
    WINDOW chain AS (ORDER BY s.number) ORDER BY s.number
    """
)
_UNSEALED = text(
    """
    SELECT count(*) AS transactions, min(booked_at) AS oldest, (SELECT max(sealed_at) FROM ledger_seals) AS last_sealed
    FROM ledger_transactions WHERE written_by >= (SELECT coalesce(max(upto_write), 0) FROM ledger_seals)
    """
)
_COUNTS = text(
    """
    SELECT (SELECT count(*) FROM ledger_transactions) AS transactions, (SELECT count(*) FROM ledger_seals) AS seals,
           (SELECT coalesce(sum(version), 0)::bigint FROM ledger_accounts) AS entries
    """
)


@dataclass(frozen=True, slots=True)
class LedgerSize:
    """How many rows of each there are."""

    transactions: int
    entries: int
    seals: int


def verify_ledger(engine: Engine, *, now: datetime | None = None) -> list[Finding]:
    """What is wrong with the ledger: empty if nothing is. Reads everything in one snapshot; locks nothing, changes nothing.

    With `now` (aware) it also tells when sealing has fallen behind. Several rows of one kind of fault give several findings, at
    most FINDINGS_A_CHECK a check.
    """
    with engine.connect().execution_options(isolation_level="REPEATABLE READ") as connection, connection.begin():
        return list(_findings(connection, now))


async def verify_ledger_async(engine: AsyncEngine, *, now: datetime | None = None) -> list[Finding]:
    """The same, for callers in an event loop."""
    async with engine.connect() as connection:
        await connection.execution_options(isolation_level="REPEATABLE READ")
        async with connection.begin():
            return await connection.run_sync(lambda sync: list(_findings(sync, now)))


def ledger_size(connection: Connection) -> LedgerSize:
    """How much there is to verify."""
    row = connection.execute(_COUNTS).one()
    return LedgerSize(row.transactions, row.entries, row.seals)


def _findings(connection: Connection, now: datetime | None) -> Iterator[Finding]:
    for check, query, where, what in _CHECKS:
        arguments = {"most": FINDINGS_A_CHECK} if ":most" in query.text else {}
        for row in connection.execute(query, arguments):
            fields: dict[str, Any] = dict(row._mapping)  # noqa: SLF001 - SQLAlchemy's documented name
            yield Finding(check, where.format(**fields), what.format(**fields))
    for seal in connection.execute(_SEALS):
        yield from _of_seal(seal)
    if now is not None:
        yield from _lag(connection, now)


def _of_seal(seal: Row[Any]) -> Iterator[Finding]:
    where = f"seal {seal.number}"
    if not seal.follows:
        yield Finding("seals_chain", where, "it does not follow the seal before it: a seal is missing or was moved")
    if not seal.chain_holds:
        yield Finding("seals_chain", where, "its chain hash is not that of the seal before it and its own figures")
    if not seal.digest_holds:
        yield Finding(
            "seals_chain",
            where,
            f"its {seal.transactions} transactions are not what was sealed (found {seal.found}): history was changed after it",
        )


def _lag(connection: Connection, now: datetime) -> Iterator[Finding]:
    row = connection.execute(_UNSEALED).one()
    if row.last_sealed is not None and row.transactions and now - row.oldest > SEAL_LAG:
        yield Finding(
            "seals_lag",
            f"{row.transactions} transactions",
            f"unsealed since {row.oldest:%Y-%m-%d %H:%M:%S} UTC: the sealer is down, or a database transaction is left open",
        )
