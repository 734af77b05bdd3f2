"""Drawing the proof of a finished day: its three sides read, and each difference held against the money of open cases."""

from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from local_stack.demo.day_plan import DayPlan, PlannedPartner
from local_stack.demo.proof import (
    HOUSE,
    LENT,
    MPESA_FEES,
    SMS,
    WALLET,
    PartnerTerms,
    ProofLine,
    house_lines,
    ledger_lines,
    partner_lines,
    prove,
    report_lines,
    truth_of,
)
from local_stack.demo.reporting import read_reports
from local_stack.demo.world import SMS_PRICE
from vault_core.ledger.balances import trial_balance
from vault_core.money import Money

# Money that a difference may be about, by the kind of the open case that names it.
_CASES_OF_PARTNER = {WALLET: {"sms_unknown", "tariff_difference"}, LENT: {"disbursement_unposted"}}
_CASES_OF_HOUSE = {SMS: {"sms_unknown"}, MPESA_FEES: {"tariff_difference"}}

_PARTNERS = text("SELECT id, name FROM partners ORDER BY name")


async def draw_proof(
    connection: AsyncConnection,
    reports_folder: Path,
    planned: DayPlan,
    day: date,
    before: Mapping[str, Any],
    truth: Mapping[str, Any],
    cases: Sequence[Mapping[str, Any]],
) -> list[ProofLine]:
    """The lines of every lender and of the house. `before` and `truth`: the outside's books, `cases`: the open ones."""
    names = {row.id: row.name for row in await connection.execute(_PARTNERS)}
    ledger = ledger_lines(await trial_balance(connection), names)
    reports = read_reports(reports_folder, day)
    truths = {partner.name: truth_of(_terms(partner), truth, before) for partner in planned.partners}
    told = {partner.name: report_lines(*reports, partner.name) for partner in planned.partners}
    topped_up = {partner.name: (partner.first_top_up + partner.second_top_up) * 100 for partner in planned.partners}
    lines: list[ProofLine] = []
    for name, cents in topped_up.items():
        in_cases = _in_cases(cases, _CASES_OF_PARTNER, name)
        lines += prove(name, partner_lines(truths[name], cents), ledger[name], partner_lines(told[name], cents), in_cases)
    total = sum(topped_up.values())
    of_house = house_lines(truths.values(), total), ledger[HOUSE], house_lines(told.values(), total)
    lines += prove(HOUSE, *of_house, _in_cases(cases, _CASES_OF_HOUSE, None))
    return lines


def _in_cases(cases: Sequence[Mapping[str, Any]], kinds_of: Mapping[str, set[str]], partner: str | None) -> dict[str, int]:
    """What open cases name, by line; of one partner, or (None) of all."""
    return {
        line: sum(c["amount_cents"] or 0 for c in cases if partner in {None, c["partner"]} and c["kind"] in kinds)
        for line, kinds in kinds_of.items()
    }


def _terms(partner: PlannedPartner) -> PartnerTerms:
    return PartnerTerms(
        name=partner.name,
        host=partner.host,
        b2c_short_code=partner.b2c_short_code,
        c2b_short_code=partner.c2b_short_code,
        sms_user=partner.name,
        sms_price_cents=Money.parse(SMS_PRICE).cents,
        system_fee_cents=partner.system_fee * 100,
        collections=partner.collections,
    )
