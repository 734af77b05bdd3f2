"""Every transaction with its legs: sums to zero, is what its key was reserved for, stays with its partner, is what was sealed.

Read by ranges of what wrote them, so that each is hashed once for its key and once for its seal.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from hashlib import sha256
from typing import Any

from sqlalchemy import Connection, text

from vault_core.finding import Finding
from vault_core.ledger.verification_closings import Closing
from vault_core.ledger.verification_seals import HIGHEST_WRITE, Seal, cuts_of, groups_of
from vault_core.ledger.verification_work import Findings, Piece, Progress, Rows, Snapshot

PIECE_TRANSACTIONS = 50_000  # about so many are read at once: what a connection sorts and hashes in memory
# A posting that was under way while a period was closed may have been stamped a little later than the closing.
CLOSING_WAIT = timedelta(minutes=1)
_NOTHING = sha256(b"").digest()

# One row a seal (`part` 'seal'), one a closed or open period ('period'), one for each thing wrong with a transaction.
_TRANSACTIONS = text(
    """
    WITH written AS MATERIALIZED (
        SELECT t.*, width_bucket(t.written_by, CAST(:cuts AS bigint[])) AS seal,
               width_bucket(t.effective_at, CAST(:closed_before AS timestamptz[])) AS period
        FROM ledger_transactions t WHERE t.written_by BETWEEN :low AND :high),
    owned AS MATERIALIZED (
        SELECT id, partner_id, code, ledger_account_bytes(scope, code, shard, normal_side) AS bytes FROM ledger_accounts),
    legs AS MATERIALIZED (
        SELECT e.transaction_id, e.leg, e.amount_cents, a.code, ledger_leg_bytes(a.code, e.amount_cents) AS body,
               CASE WHEN a.partner_id IS DISTINCT FROM w.partner_id THEN a.partner_id END AS other_partner,
               ledger_entry_bytes(e.leg, e.account_id, e.amount_cents, e.balance_before_cents, e.account_version)
                   || CASE WHEN (CAST(:formats AS smallint[]))[w.seal + 1] = 1 THEN '' ELSE a.bytes END AS bytes
        FROM written w JOIN ledger_entries e ON e.transaction_id = w.id LEFT JOIN owned a ON a.id = e.account_id
        WHERE e.transaction_id BETWEEN CAST(:low_id AS uuid) AND CAST(:high_id AS uuid)),
    bodies AS (
        SELECT transaction_id, string_agg(body, ''::bytea ORDER BY code COLLATE "C", amount_cents) AS body
        FROM legs GROUP BY transaction_id),
    wholes AS (
        SELECT transaction_id, count(*) AS legs, sum(amount_cents) AS cents, count(other_partner) AS others,
               string_agg(bytes, ''::bytea ORDER BY leg) AS bytes
        FROM legs GROUP BY transaction_id),
    judged AS MATERIALIZED (
        SELECT w.id, w.written_by, w.seal, w.period, w.key, w.reverses, w.effective_at,
               coalesce(l.legs, 0) AS legs, coalesce(l.cents, 0) AS cents, coalesce(l.others, 0) AS others,
               w.reverses IS NOT NULL AND NOT EXISTS (
                   SELECT FROM ledger_reversals r WHERE r.reversal = w.id AND r.original = w.reverses) AS unlinked,
               w.reverses IS NOT NULL AND EXISTS (
                   SELECT FROM ledger_entries e LEFT JOIN ledger_accounts a ON a.id = e.account_id
                   WHERE e.transaction_id IN (w.id, w.reverses)
                   GROUP BY a.scope, a.code HAVING sum(e.amount_cents) <> 0 OFFSET 0) AS unlike,
               coalesce(w.booked_at > (CAST(:closed_at AS timestamptz[]))[w.period + 1] + CAST(:closing_wait AS interval), false)
                   AS late,
               k.body_hash IS DISTINCT FROM ledger_body_hash(
                   w.kind, w.reference, coalesce(w.carried_from, w.effective_at), w.reverses, b.body) AS other_body,
               CASE WHEN w.seal < cardinality(CAST(:cuts AS bigint[])) THEN ledger_transaction_hash(
                   w.id, w.partner_id, w.kind, w.reference, w.key, w.description, w.effective_at, w.carried_from, w.booked_at,
                   w.reverses, w.written_by, l.bytes) END AS hash
        FROM written w LEFT JOIN wholes l ON l.transaction_id = w.id LEFT JOIN bodies b ON b.transaction_id = w.id
        LEFT JOIN LATERAL (
            SELECT k.body_hash FROM ledger_keys k
            WHERE k.scope = coalesce(w.partner_id, '00000000-0000-0000-0000-000000000000') AND k.key = w.key
              AND k.transaction_id = w.id OFFSET 0) AS k ON true),
    wrong AS (
        SELECT w.part, j.id, w.figure, j.cents, w.detail FROM judged j CROSS JOIN LATERAL (VALUES
            ('sums_to_zero', j.legs < 2 OR j.cents <> 0, j.legs, NULL),
            ('keys', j.other_body, NULL, j.key),
            ('partners_apart', j.others > 0, j.others, NULL),
            ('reversed_once', j.unlinked, NULL, j.reverses::text),
            ('reversals_mirror', j.unlike, NULL, j.reverses::text),
            ('closed_periods', j.late, NULL, j.effective_at::text)) AS w(part, so, figure, detail)
        WHERE (j.legs < 2 OR j.cents <> 0 OR j.other_body OR j.others > 0 OR j.unlinked OR j.unlike OR j.late) AND w.so)
    SELECT part, id, figure, cents, detail, NULL::uuid AS last_id, NULL::bytea AS digest
    FROM (SELECT *, row_number() OVER (PARTITION BY part) AS n FROM wrong) AS ranked WHERE n <= :most
    UNION ALL
    SELECT 'seal', (array_agg(id ORDER BY written_by, id))[1], count(*), seal, NULL,
           (array_agg(id ORDER BY written_by DESC, id DESC))[1], sha256(string_agg(hash, ''::bytea ORDER BY written_by, id))
    FROM judged WHERE hash IS NOT NULL GROUP BY seal
    UNION ALL
    SELECT 'period', NULL, count(*), period, NULL, NULL, NULL FROM judged GROUP BY period
    """
)
_RANGE_OF_IDS = text(  # PostgreSQL has no least UUID of many; their texts sort as they do
    """
    SELECT min(id::text COLLATE "C")::uuid AS low, max(id::text COLLATE "C")::uuid AS high
    FROM ledger_transactions WHERE written_by BETWEEN :low AND :high
    """
)
_NEXT_CUT = text(
    "SELECT written_by FROM ledger_transactions WHERE written_by >= :start ORDER BY written_by OFFSET :piece LIMIT 1"
)
_KEYS = text("SELECT count(*) FROM ledger_keys")
_LOST_KEYS = text(
    """
    SELECT k.key, k.transaction_id FROM ledger_keys k
    WHERE NOT EXISTS (SELECT FROM ledger_transactions t WHERE t.id = k.transaction_id) LIMIT :most
    """
)
_LOST_REVERSALS = text(
    """
    SELECT r.reversal, r.original FROM ledger_reversals r
    WHERE NOT EXISTS (SELECT FROM ledger_transactions t WHERE t.id = r.reversal AND t.reverses = r.original) LIMIT :most
    """
)
_SENTENCES = {
    "sums_to_zero": "{figure} legs sum to {cents} cents (legs)",
    "keys": "its key {detail} is not reserved for it, or its body is not the one that was posted",
    "partners_apart": "{figure} of its legs move accounts of another partner",
    "reversed_once": "its link to the reversed transaction {detail} is missing on one side",
    "reversals_mirror": "it does not undo {detail}, account by account",
    "closed_periods": "it is effective at {detail}, in a period that was closed before it was booked",
}


@dataclass(frozen=True, slots=True)
class _Written(Piece):
    """The transactions written from one database transaction to another, and the seals that are to cover them."""

    seals: Sequence[Seal] = ()

    def read(self, connection: Connection) -> Rows:
        """Narrows the entries to the range of ids that the transactions have, then reads both."""
        ids = connection.execute(_RANGE_OF_IDS, {"low": self.arguments["low"], "high": self.arguments["high"]}).one()
        return list(connection.execute(self.statement, {**self.arguments, "low_id": ids.low, "high_id": ids.high}))


class TransactionsCheck:
    """Reads every transaction written from `start` on and keeps what later checks are told: how many fall into each period."""

    name = "transactions"

    def __init__(
        self, snapshot: Snapshot, start: int, seals: Sequence[Seal], closings: Sequence[Closing], findings: Findings
    ) -> None:
        self._snapshot, self._start, self._seals, self._findings = snapshot, start, seals, findings
        self._shared: dict[str, Any] = {
            "closed_before": [closing.closed_before for closing in closings],
            "closed_at": [closing.closed_at for closing in closings],
            "closing_wait": CLOSING_WAIT,
            "most": findings.most,
        }
        self.periods: Counter[int] = Counter()  # transactions by period: 0 was closed first; the last is open

    @property
    def seen(self) -> int:
        """How many transactions were read."""
        return self.periods.total()

    def run(self, progress: Progress, total: int) -> None:
        """Adds what is wrong to the findings."""

        def take(piece: _Written, rows: Rows) -> None:
            self._take(piece, rows)
            progress(self.name, self.seen, total)

        self._snapshot.run(self._pieces(), take)

    def check_completeness(self, transactions: int) -> None:
        """After a full run: no transaction, key or reversal is there that was not met."""
        connection, most = self._snapshot.connection, self._findings.most
        if self.seen != transactions:
            what = f"{transactions} are stored, {self.seen} were found by what wrote them"
            self._findings.add(Finding("transactions_complete", "all transactions", what))
        if connection.execute(_KEYS).scalar_one() != transactions:
            for row in connection.execute(_LOST_KEYS, {"most": most}):
                self._findings.add(Finding("keys", f"key {row.key}", f"its transaction {row.transaction_id} is not there"))
        for row in connection.execute(_LOST_REVERSALS, {"most": most}):
            what = f"its link to the reversed transaction {row.original} is missing on one side"
            self._findings.add(Finding("reversed_once", f"transaction {row.reversal}", what))

    def _pieces(self) -> Iterator[_Written]:
        low = self._start
        for group in groups_of(self._seals, PIECE_TRANSACTIONS):
            cuts = cuts_of(group, max(low, 0))[1:]
            if cuts[-1] > low:
                yield self._piece(low, cuts[-1] - 1, group, cuts)
                low = cuts[-1]
        while True:
            found = {"start": low, "piece": PIECE_TRANSACTIONS}
            following: int | None = self._snapshot.connection.execute(_NEXT_CUT, found).scalar_one_or_none()
            if following is None:
                yield self._piece(low, HIGHEST_WRITE, (), [])
                return
            high = max(following - 1, low)
            yield self._piece(low, high, (), [])
            low = high + 1

    def _piece(self, low: int, high: int, seals: Sequence[Seal], cuts: list[int]) -> _Written:
        arguments = {**self._shared, "low": low, "high": high, "cuts": cuts, "formats": [seal.format for seal in seals]}
        return _Written(_TRANSACTIONS, arguments, sum(seal.transactions for seal in seals) or PIECE_TRANSACTIONS, seals)

    def _take(self, piece: _Written, rows: Rows) -> None:
        sealed = {}
        for row in rows:
            if row.part == "period":
                self.periods[int(row.cents)] += int(row.figure)
            elif row.part == "seal":
                sealed[int(row.cents)] = row
            else:
                what = _SENTENCES[row.part].format(figure=row.figure, cents=row.cents, detail=row.detail)
                self._findings.add(Finding(row.part, f"transaction {row.id}", what))
        for place, seal in enumerate(piece.seals):
            self._compare(seal, sealed.get(place))

    def _compare(self, seal: Seal, found: Any) -> None:
        transactions = 0 if found is None else int(found.figure)
        digest = _NOTHING if found is None else bytes(found.digest)
        ends = (None, None) if found is None else (str(found.id), str(found.last_id))
        if (transactions, digest, *ends) != (seal.transactions, seal.digest, seal.first_transaction, seal.last_transaction):
            what = f"its {seal.transactions} transactions are not what was sealed (found {transactions}): "
            what += "history was changed after it"
            self._findings.add(Finding("seals_chain", seal.where, what))
