"""How a partner's float is told to people, in a line each."""

from datetime import datetime

from vault_core.clock import NAIROBI
from vault_core.disbursements.float_description import FloatDescription


def float_lines(described: FloatDescription) -> list[str]:
    """What M-Pesa told, what is expected to be left, and what waits for it."""
    found = described.float
    if found.report is None:
        lines = ["float: M-Pesa has told no balance yet"]
    else:
        told = f"float: M-Pesa told {found.report.utility} on {_moment(found.report.at)}"
        under_way = f" (after {found.drawing} for payouts under way)" if found.drawing else ""
        lines = [f"{told}; {found.expected} expected to be left{under_way}"]
    if found.is_paused and found.refused_at is not None:
        lines.append(f"stopped: M-Pesa refused a payout for float on {_moment(found.refused_at)} and told no balance since")
    if described.waiting:
        payouts = "payout waits" if described.waiting == 1 else "payouts wait"
        lines.append(f"{described.waiting} {payouts} for float: {described.waiting_for}. Buy float: they go by themselves")
    if described.short_since is not None and described.asked_at is not None:
        lines.append(f"M-Pesa was asked for the balance on {_moment(described.asked_at)}: {described.outcome or 'no answer yet'}")
    return lines


def _moment(at: datetime) -> str:
    return f"{at.astimezone(NAIROBI):%Y-%m-%d %H:%M}"
