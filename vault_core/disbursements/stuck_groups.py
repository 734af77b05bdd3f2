"""Many disbursements at a glance: how many wait for the same at the same partner, how much money, since when. Pure."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from vault_core.disbursements.eligibility import HeldFor
from vault_core.disbursements.payout_list import ListedPayout
from vault_core.disbursements.states import State
from vault_core.money import ZERO, Money


@dataclass(frozen=True, slots=True)
class StuckGroup:
    """Disbursements of one partner in one state, held for one cause. `since`: when the first of them began to wait."""

    partner: str
    state: State
    held_for: HeldFor | None
    loans: int
    total: Money
    since: datetime


def group_stuck(payouts: Sequence[ListedPayout]) -> list[StuckGroup]:
    """The groups, the largest first."""
    members: dict[tuple[str, State, HeldFor | None], list[ListedPayout]] = defaultdict(list)
    for payout in payouts:
        members[payout.partner, payout.state, payout.held_for].append(payout)
    groups = [
        StuckGroup(*key, len(those), sum((one.payout for one in those), ZERO), min(one.since for one in those))
        for key, those in members.items()
    ]
    return sorted(groups, key=lambda group: (-group.loans, group.partner, group.state, group.held_for or ""))
