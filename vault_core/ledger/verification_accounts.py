"""Every account's entries: versions without a gap, each starting from the balance that the one before it left.

Entries are read by ranges of their transactions' ids, in the order in which they lie on disk; an account's versions are scattered
over those ranges. So each range tells the runs of consecutive entries in it, by their two ends, and runs are joined end to start
as they come in, whatever the order: a sound account ends as one run, from version 1 and nothing to its own version and balance.
Only ends are kept, so memory does not grow with the entries. Sums are made from the amounts alone; no stored balance is believed.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import Row, text

from vault_core.finding import Finding
from vault_core.ledger.verification_closings import Closing
from vault_core.ledger.verification_work import Findings, Piece, Progress, Rows, Snapshot

PIECE_ENTRIES = 100_000
_LEGS_ABOUT = 2  # entries a transaction, to cut ranges of ids of about PIECE_ENTRIES
_LOWEST_ID, _HIGHEST_ID = UUID(int=0), UUID(int=2**128 - 1)
_MOST_ENDS = 1_000_000  # runs that do not join; a sound ledger has a few a range and account

# What to read, then what is asked of it. `part`: an end of a run of entries, the sums of a period, or a fault of an entry.
_BY_ID = """
    SELECT e.*, t.id IS NULL AS orphan, width_bucket(t.effective_at, CAST(:closed_before AS timestamptz[])) AS period
    FROM ledger_entries e
    LEFT JOIN ledger_transactions t ON t.id = e.transaction_id AND t.id BETWEEN CAST(:low AS uuid) AND CAST(:high AS uuid)
    WHERE e.transaction_id BETWEEN CAST(:low AS uuid) AND CAST(:high AS uuid)
"""
_BY_VERSION = """
    SELECT e.*, false AS orphan, 0 AS period FROM ledger_entries e
    WHERE e.account_id = :account_id AND e.account_version BETWEEN :low AND :high
"""
_ENDS = """
    WITH legs AS MATERIALIZED ({legs}),
    chained AS (
        SELECT account_id, account_version, balance_before_cents, balance_before_cents + amount_cents AS after_cents,
               lag(account_version) OVER account AS former_version,
               lag(balance_before_cents + amount_cents) OVER account AS former_cents,
               lead(account_version) OVER account IS NULL AS last
        FROM legs WINDOW account AS (PARTITION BY account_id ORDER BY account_version)),
    wrong AS (
        SELECT 'orphans' AS part, transaction_id, leg, account_id, account_version FROM legs WHERE orphan
        UNION ALL SELECT 'after', transaction_id, leg, account_id, account_version FROM legs
        WHERE balance_after_cents IS DISTINCT FROM balance_before_cents + amount_cents)
    SELECT 'end' AS part, account_id, account_version AS version, balance_before_cents::numeric AS cents,
           after_cents::numeric AS after_cents, former_version, former_cents, last, NULL::uuid AS transaction_id
    FROM chained
    WHERE last OR former_version IS NULL OR account_version <> former_version + 1 OR balance_before_cents <> former_cents
    UNION ALL
    SELECT 'period', account_id, count(*), sum(amount_cents), NULL, period, NULL, NULL, NULL FROM legs GROUP BY account_id, period
    UNION ALL
    SELECT part, account_id, account_version, leg, NULL, NULL, NULL, NULL, transaction_id
    FROM (SELECT *, row_number() OVER (PARTITION BY part) AS n FROM wrong) AS ranked WHERE n <= :most
    ORDER BY part, account_id, version
"""
_ENTRIES_BY_ID = text(_ENDS.format(legs=_BY_ID))
_ENTRIES_BY_VERSION = text(_ENDS.format(legs=_BY_VERSION))
_NEXT_ID = text("SELECT id FROM ledger_transactions WHERE id >= :start ORDER BY id OFFSET :piece LIMIT 1")
_ACCOUNTS = text(
    """
    SELECT a.id, coalesce(p.name, 'house') || ' ' || a.code || '/' || a.shard AS name, a.balance_cents, a.version
    FROM ledger_accounts a LEFT JOIN partners p ON p.id = a.partner_id
    """
)
_MOVED_SINCE = text(
    """
    SELECT e.account_id, min(e.account_version) AS first
    FROM ledger_transactions t JOIN ledger_entries e ON e.transaction_id = t.id
    WHERE t.written_by >= :start GROUP BY e.account_id
    """
)
_LAST = text(
    """
    SELECT a.id, l.account_version AS version, l.balance_after_cents AS cents FROM unnest(CAST(:ids AS bigint[])) AS a(id)
    CROSS JOIN LATERAL (SELECT e.account_version, e.balance_after_cents FROM ledger_entries e
                        WHERE e.account_id = a.id ORDER BY e.account_version DESC LIMIT 1) AS l
    """
)
_AT_VERSION = text(
    """
    SELECT transaction_id, leg, balance_after_cents FROM ledger_entries
    WHERE account_id = :account_id AND account_version = :version
    ORDER BY transaction_id, leg LIMIT 1
    """
)


@dataclass(frozen=True, slots=True)
class _Account:
    """What an account says of itself."""

    name: str
    balance_cents: int
    version: int


@dataclass(frozen=True, slots=True)
class _Run:
    """Consecutive entries of one account: `first` starts from `before`, `last` leaves `after`."""

    first: int
    before: int
    last: int
    after: int


class _Runs:
    """The runs of one account, joined where one ends as another starts."""

    def __init__(self) -> None:
        self._starts: dict[tuple[int, int], _Run] = {}
        self._ends: dict[tuple[int, int], _Run] = {}
        self._doubled: list[_Run] = []

    def add(self, run: _Run) -> int:
        """Joins `run` to what is there; returns by how many runs there are more."""
        before = len(self)
        former = self._ends.pop((run.first - 1, run.before), None)
        if former is not None:
            del self._starts[former.first, former.before]
            run = _Run(former.first, former.before, run.last, run.after)
        following = self._starts.pop((run.last + 1, run.after), None)
        if following is not None:
            del self._ends[following.last, following.after]
            run = _Run(run.first, run.before, following.last, following.after)
        if (run.first, run.before) in self._starts or (run.last, run.after) in self._ends:
            self._doubled.append(run)
        else:
            self._starts[run.first, run.before] = run
            self._ends[run.last, run.after] = run
        return len(self) - before

    def __len__(self) -> int:
        return len(self._starts) + len(self._doubled)

    def __iter__(self) -> Iterator[_Run]:
        return iter(sorted([*self._starts.values(), *self._doubled], key=lambda run: (run.first, run.before)))


class AccountsCheck:
    """Joins the runs of every account and sums its entries; `moved` is kept for the closings."""

    name = "entries"

    def __init__(self, snapshot: Snapshot, closings: Sequence[Closing], findings: Findings) -> None:
        self._snapshot, self._findings = snapshot, findings
        self._shared = {"closed_before": [closing.closed_before for closing in closings], "most": findings.most}
        self._accounts = {
            row.id: _Account(row.name, int(row.balance_cents), int(row.version)) for row in snapshot.connection.execute(_ACCOUNTS)
        }
        self._runs: defaultdict[int, _Runs] = defaultdict(_Runs)
        self._entries: Counter[int] = Counter()
        self._cents: Counter[int] = Counter()
        self._ends = 0
        self.moved: defaultdict[int, Counter[int]] = defaultdict(Counter)  # cents by period and account

    @property
    def seen(self) -> int:
        """How many entries were read."""
        return self._entries.total()

    def run(self, progress: Progress, total: int) -> None:
        """Reads every entry there is and compares each account with all of its own."""
        self._read(self._by_id(), progress, total)
        for account_id in sorted(self._accounts.keys() | self._entries.keys()):
            if self._sums_hold(account_id):
                self._compare_runs(account_id, 1, 0)

    def run_since(self, start: int, progress: Progress, total: int) -> None:
        """Reads, of each account that moved in what was written from `start` on, the entries from the first of those on.

        The balance before that entry, and accounts that did not move, are held against the stored entry only.
        """
        firsts = {row.account_id: int(row.first) for row in self._snapshot.connection.execute(_MOVED_SINCE, {"start": start})}
        self._read(self._by_version(firsts), progress, total)
        for account_id, first in sorted(firsts.items()):
            before = self._at(account_id, first - 1)
            if before is None and first > 1:
                what = f"entry {first - 1} of {account_id} is not there, entry {first} is"
                self._findings.add(Finding("entries_chain", f"account {account_id}", what))
            self._compare_runs(account_id, first, 0 if before is None else int(before.balance_after_cents))
        self._compare_still(sorted(self._accounts.keys() - firsts.keys()))

    def check_trial_balance(self) -> None:
        """The accounts' own balances sum to zero."""
        cents = sum(account.balance_cents for account in self._accounts.values())
        if cents:
            self._findings.add(Finding("trial_balance", "all accounts", f"debits exceed credits by {cents} cents"))

    def _read(self, pieces: Iterator[Piece], progress: Progress, total: int) -> None:
        def take(_: Piece, rows: Rows) -> None:
            self._take(rows)
            progress(self.name, self.seen, total)

        self._snapshot.run(pieces, take)

    def _by_id(self) -> Iterator[Piece]:
        low = _LOWEST_ID
        while True:
            found = {"start": low, "piece": PIECE_ENTRIES // _LEGS_ABOUT}
            following: UUID | None = self._snapshot.connection.execute(_NEXT_ID, found).scalar_one_or_none()
            high = _HIGHEST_ID if following is None else UUID(int=following.int - 1)
            yield Piece(_ENTRIES_BY_ID, {**self._shared, "low": low, "high": high}, PIECE_ENTRIES)
            if following is None:
                return
            low = following

    def _by_version(self, firsts: Mapping[int, int]) -> Iterator[Piece]:
        for account_id, first in firsts.items():
            account = self._accounts.get(account_id)
            highest = max(account.version if account else first, first)
            for low in range(first, highest + 1, PIECE_ENTRIES):
                # The last one is open-ended: what lies past the account's own version is found too.
                high = low + PIECE_ENTRIES - 1 if low + PIECE_ENTRIES <= highest else 2**63 - 1
                arguments = {"account_id": account_id, "low": low, "high": high, "most": self._findings.most}
                yield Piece(_ENTRIES_BY_VERSION, arguments, PIECE_ENTRIES)

    def _take(self, rows: Rows) -> None:
        start: tuple[int, int] | None = None
        for row in rows:
            if row.part == "end":
                if row.former_version is None:
                    start = None
                elif start is not None and not self._follows(row):
                    self._add(row.account_id, _Run(*start, int(row.former_version), int(row.former_cents)))
                    start = None
                start = start or (int(row.version), int(row.cents))
                if row.last:
                    self._add(row.account_id, _Run(*start, int(row.version), int(row.after_cents)))
            elif row.part == "period":
                self._entries[row.account_id] += int(row.version)
                self._cents[row.account_id] += int(row.cents)
                if row.former_version is not None:
                    self.moved[int(row.former_version)][row.account_id] += int(row.cents)
            else:
                self._tell(row.part, row.transaction_id, int(row.cents), row.account_id, int(row.version))

    @staticmethod
    def _follows(row: Row[Any]) -> bool:
        return bool(row.version == row.former_version + 1 and row.cents == row.former_cents)

    def _add(self, account_id: int, run: _Run) -> None:
        if self._ends < _MOST_ENDS:
            self._ends += self._runs[account_id].add(run)

    def _tell(self, part: str, transaction_id: UUID, leg: int, account_id: int, version: int) -> None:
        if part == "orphans":
            self._findings.add(Finding("sums_to_zero", f"transaction {transaction_id}", f"leg {leg} has no transaction"))
        else:
            what = f"entry {version} of {account_id} does not leave its starting balance and its amount together"
            self._findings.add(Finding("entries_chain", f"transaction {transaction_id} leg {leg}", what))

    def _sums_hold(self, account_id: int) -> bool:
        """Whether the account is where the sum of its entries is; tells if not."""
        account = self._accounts.get(account_id)
        entries, cents = self._entries[account_id], self._cents[account_id]
        if account is None or (account.version, account.balance_cents) == (entries, cents):
            return True
        said = f"account {account_id} says {account.balance_cents} cents after {account.version} entries"
        self._findings.add(Finding("balance_is_sum_of_entries", account.name, f"{said}; {entries} entries sum to {cents}"))
        return not (account.version == entries and len(self._runs[account_id]) == 1)  # else all is said

    def _compare_runs(self, account_id: int, version: int, cents: int) -> None:
        """Whether the runs are one, from `version` and `cents` on, to where the account stands."""
        account = self._accounts.get(account_id)
        if account is None:
            what = f"{self._entries[account_id]} entries are of an account that is not there"
            self._findings.add(Finding("balance_is_sum_of_entries", f"account {account_id}", what))
            return
        broken = False
        for run in self._runs.get(account_id, ()):
            if (run.first, run.before) != (version, cents):
                row = self._at(account_id, run.first)
                where = f"account {account_id}" if row is None else f"transaction {row.transaction_id} leg {row.leg}"
                what = f"entry {run.first} of {account_id} starts from {run.before}, not {version} from {cents}"
                self._findings.add(Finding("entries_chain", where, what))
                broken = True
            version, cents = run.last + 1, run.after
        if not broken and (account.version, account.balance_cents) != (version - 1, cents):
            what = f"account {account_id} says {account.balance_cents} cents after entry {account.version}"
            self._findings.add(
                Finding("entries_chain", account.name, f"{what}; its last entry is {version - 1} and leaves {cents}")
            )

    def _compare_still(self, account_ids: list[int]) -> None:
        last = {
            row.id: (int(row.version), int(row.cents)) for row in self._snapshot.connection.execute(_LAST, {"ids": account_ids})
        }
        for account_id in account_ids:
            account = self._accounts[account_id]
            version, cents = last.get(account_id, (0, 0))
            if (account.version, account.balance_cents) != (version, cents):
                what = f"account {account_id} says {account.balance_cents} cents after {account.version} entries"
                self._findings.add(Finding("balance_is_sum_of_entries", account.name, f"{what}; entry {version} left {cents}"))

    def _at(self, account_id: int, version: int) -> Row[Any] | None:
        return self._snapshot.connection.execute(_AT_VERSION, {"account_id": account_id, "version": version}).one_or_none()
