from datetime import date

from local_stack.demo.day_plan import Found, Trouble, plan_day
from local_stack.demo.small_lenders import FEE_BAND, LOCKED_OUT, TROUBLED, loan_with, plan_small_lenders
from local_stack.demo.world import FAULTS, partner_file, planned_faults, sandbox_world
from sandbox.faults import FAULTS as KNOWN_FAULTS
from vault_core.partners.partner_file import parse_partner_file


def troubled(seed: int = 1):
    return next(partner for partner in plan_small_lenders(seed) if partner.name == TROUBLED)


def whole_day(seed: int = 1):
    plan = plan_day(seed)
    return type(plan)(seed, (*plan.partners, *plan_small_lenders(seed)))


def test_each_trouble_has_one_loan_and_the_same_seed_the_same_lenders() -> None:
    assert sorted(loan.trouble for loan in troubled().approved) == sorted(Trouble)
    assert plan_small_lenders(4) == plan_small_lenders(4)
    assert plan_small_lenders(4) != plan_small_lenders(5)


def test_the_loan_that_must_wait_is_of_the_client_whose_large_payout_nobody_knows_the_end_of() -> None:
    partner = troubled()
    first, second = loan_with(partner, Trouble.TWO_PERSONS), loan_with(partner, Trouble.SAME_PAYEE)
    assert first.client == second.client


def test_tranches_sum_to_the_loan_and_the_top_up_pays_off_a_running_loan_of_the_same_client() -> None:
    partner = troubled()
    tranches = loan_with(partner, Trouble.TRANCHES)
    assert sum(tranches.tranches) == tranches.principal
    assert partner.parts_to_pay == len(partner.approved) + len(tranches.tranches) - 1
    top_up = loan_with(partner, Trouble.TOP_UP)
    older = next(loan for loan in partner.loans if loan.number == top_up.topup_of)
    assert older.client == top_up.client
    assert older.found is None
    assert older.principal < top_up.principal


def test_only_one_loan_lies_in_the_band_whose_fee_is_another_and_only_one_needs_a_second_person() -> None:
    partner = troubled()
    parts = [part for loan in partner.approved for part in loan.tranches or (loan.principal,)]
    assert [part for part in parts if 1_500 < part <= FEE_BAND] == [loan_with(partner, Trouble.FEE_DIFFERS).principal]
    assert [part for part in parts if part > 50_000] == [loan_with(partner, Trouble.TWO_PERSONS).principal]


def test_loans_that_are_held_back_are_approved_on_the_day_so_that_nothing_is_sent_before() -> None:
    partner = troubled()
    hooked = {loan.trouble for loan in partner.approved if loan.found is Found.HOOK}
    assert hooked == {Trouble.HELD_BACK, Trouble.CANCELLED, Trouble.SAME_PAYEE}


def test_no_fault_drawn_at_random_can_meet_a_small_lender() -> None:
    plan = whole_day()
    small = {place for p in plan.partners[2:] for place in (p.b2c_short_code, p.c2b_short_code, p.host, p.name)}
    switches = planned_faults(plan)
    assert set(switches) <= set(KNOWN_FAULTS)
    assert set(FAULTS) < set(switches)
    for switch in (switch for each in switches.values() for switch in each):
        exact = "units" in switch or switch.get("rate") == 1.0
        assert exact == bool(small & set(switch["scope"]))


def test_the_small_lenders_are_in_the_world_and_can_be_added() -> None:
    plan = whole_day()
    hosts = sandbox_world(plan, date(2026, 11, 24), "2026-11-24T08:00:00+03:00")["mifos"]
    for partner in plan.partners[2:]:
        assert parse_partner_file(partner_file(partner, "http://127.0.0.1:1")).name == partner.name
        assert len(hosts[partner.host]["loans"]) == len(partner.loans)
    assert [bool(hosts[p.host].get("closed_days")) for p in plan.partners] == [p.name == LOCKED_OUT for p in plan.partners]
