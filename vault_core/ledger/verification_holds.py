"""Every hold: its state makes sense, what was captured is what its transaction took, and what is held is marked held."""

from collections import Counter
from collections.abc import Iterator
from uuid import UUID

from sqlalchemy import text

from vault_core.finding import Finding
from vault_core.ledger.verification_work import Findings, Piece, Progress, Rows, Snapshot

_PIECE_HOLDS = 50_000
_LOWEST_ID, _HIGHEST_ID = UUID(int=0), UUID(int=2**128 - 1)

# One row an account with what is held on it ('held', among `figure` holds), one for each thing wrong with a hold.
_HOLDS = text(
    """
    WITH holds AS MATERIALIZED (
        SELECT h.*, taken.cents AS taken_cents FROM ledger_holds h LEFT JOIN LATERAL (
            SELECT abs(sum(e.amount_cents)) AS cents FROM ledger_entries e
            WHERE e.transaction_id = h.transaction_id AND e.account_id = h.account_id OFFSET 0
        ) AS taken ON h.state = 'captured' AND h.transaction_id >= CAST(:captured_from AS uuid)
        WHERE h.id BETWEEN CAST(:low AS uuid) AND CAST(:high AS uuid)),
    wrong AS (
        SELECT 'captures_match' AS part, id, key, captured_cents, coalesce(taken_cents, 0) AS cents FROM holds
        WHERE state = 'captured' AND transaction_id >= CAST(:captured_from AS uuid) AND captured_cents <> coalesce(taken_cents, 0)
        UNION ALL
        SELECT 'hold_states', id, key, captured_cents, amount_cents FROM holds
        WHERE (state = 'held') <> (resolved_at IS NULL) OR (state = 'captured') <> (captured_cents > 0)
           OR (state = 'captured') <> (transaction_id IS NOT NULL) OR captured_cents > amount_cents
           OR (state = 'expired' AND (expires_at IS NULL OR resolved_at < expires_at)))
    SELECT part, id, key, captured_cents AS figure, cents, NULL::bigint AS account_id
    FROM (SELECT *, row_number() OVER (PARTITION BY part) AS n FROM wrong) AS ranked WHERE n <= :most
    UNION ALL
    SELECT 'held', NULL, NULL, count(*), sum(amount_cents) FILTER (WHERE state = 'held'), account_id
    FROM holds GROUP BY account_id
    """
)
_NEXT_ID = text("SELECT id FROM ledger_holds WHERE id >= :start ORDER BY id OFFSET :piece LIMIT 1")
_FIRST_SINCE = text("""SELECT min(id::text COLLATE "C")::uuid FROM ledger_transactions WHERE written_by >= :start""")
_SHARED = text(
    """
    SELECT transaction_id, count(*) AS holds FROM ledger_holds WHERE transaction_id IS NOT NULL
    GROUP BY transaction_id HAVING count(*) > 1 ORDER BY transaction_id LIMIT :most
    """
)
_MARKED = text(
    """
    SELECT a.id, coalesce(p.name, 'house') || ' ' || a.code AS name, a.held_cents
    FROM ledger_accounts a LEFT JOIN partners p ON p.id = a.partner_id
    """
)
_SENTENCES = {
    "captures_match": "{figure} cents are marked captured; its transaction took {cents}",
    "hold_states": "its state, its times, its transaction and {figure} captured of {cents} cents do not go together",
}


class HoldsCheck:
    """Reads every hold; what it captured is held against transactions from the first written at `start` on (None: all)."""

    name = "holds"

    def __init__(self, snapshot: Snapshot, start: int | None, findings: Findings) -> None:
        self._snapshot, self._start, self._findings = snapshot, start, findings
        self._held: Counter[int] = Counter()
        self._seen = 0

    def run(self, progress: Progress, total: int) -> None:
        """Adds what is wrong to the findings."""

        def take(_: Piece, rows: Rows) -> None:
            for row in rows:
                if row.part == "held":
                    self._seen += int(row.figure)
                    self._held[row.account_id] += int(row.cents or 0)
                else:
                    what = _SENTENCES[row.part].format(figure=row.figure, cents=row.cents)
                    self._findings.add(Finding(row.part, f"hold {row.id} ({row.key})", what))
            progress(self.name, self._seen, total)

        self._snapshot.run(self._pieces(), take)
        for row in self._snapshot.connection.execute(_SHARED, {"most": self._findings.most}):
            what = f"{row.holds} holds say that it captured them; a capture ends one"
            self._findings.add(Finding("captures_match", f"transaction {row.transaction_id}", what))
        for row in self._snapshot.connection.execute(_MARKED):
            if row.held_cents != self._held[row.id]:
                what = f"{row.held_cents} cents are marked held; its open holds sum to {self._held[row.id]}"
                self._findings.add(Finding("held_is_sum_of_holds", row.name, what))

    def _pieces(self) -> Iterator[Piece]:
        connection, captured_from = self._snapshot.connection, _LOWEST_ID
        if self._start is not None:
            captured_from = connection.execute(_FIRST_SINCE, {"start": self._start}).scalar_one() or _HIGHEST_ID
        low = _LOWEST_ID
        while True:
            following: UUID | None = connection.execute(_NEXT_ID, {"start": low, "piece": _PIECE_HOLDS}).scalar_one_or_none()
            high = _HIGHEST_ID if following is None else UUID(int=following.int - 1)
            arguments = {"low": low, "high": high, "captured_from": captured_from, "most": self._findings.most}
            yield Piece(_HOLDS, arguments, _PIECE_HOLDS)
            if following is None:
                return
            low = following
