from datetime import date

from local_stack.demo.day_plan import ENABLED_PRODUCTS, Found, plan_day
from local_stack.demo.world import FAULTS, partner_file, payment_order, sandbox_world
from sandbox.faults import FAULTS as KNOWN_FAULTS
from vault_core.partners.partner_file import parse_partner_file


def test_a_seed_always_gives_the_same_day_and_another_seed_another() -> None:
    assert plan_day(3) == plan_day(3)
    assert plan_day(3) != plan_day(4)


def test_the_day_is_large_enough_to_mean_something() -> None:
    plan = plan_day(1)
    assert len({partner.host for partner in plan.partners}) == 2
    payable = [loan for partner in plan.partners for loan in partner.approved if loan.product in ENABLED_PRODUCTS]
    assert len(payable) >= 200
    assert {loan.found for loan in payable} == {Found.POLL, Found.HOOK}
    assert sum(len(partner.payments) for partner in plan.partners) >= 300


def test_every_kind_of_bad_loan_and_stray_payment_is_in_the_day() -> None:
    for partner in plan_day(7).partners:
        assert any(client.phone is None for client in partner.clients)
        assert any(client.phone == "12345" for client in partner.clients)
        assert any(loan.principal > 60_000 for loan in partner.approved)
        assert any(loan.product not in ENABLED_PRODUCTS for loan in partner.approved)
        assert any(payment.target is None for payment in partner.payments)
        assert {payment.target[0] for payment in partner.payments if payment.target} == {"loan", "savings"}


def test_each_lenders_file_is_one_that_partner_add_takes() -> None:
    for partner in plan_day(1).partners:
        described = parse_partner_file(partner_file(partner, "http://127.0.0.1:1"))
        assert described.name == partner.name


def test_the_world_names_only_faults_that_the_sandbox_has() -> None:
    assert set(FAULTS) <= set(KNOWN_FAULTS)


def test_a_payment_is_ordered_in_cents_with_a_reference_its_payer_could_have_typed() -> None:
    partner = plan_day(1).partners[0]
    orders = [payment_order(partner, payment) for payment in partner.payments]
    assert all(order["amount_cents"] == payment.amount * 100 for order, payment in zip(orders, partner.payments, strict=True))
    accounts = sandbox_world(plan_day(1), date(2026, 11, 24), "2026-11-24T08:00:00+03:00")["mifos"][partner.host]
    numbers = {
        row[key].lower() for kind in ("loans", "savings") for row in accounts[kind] for key in ("account_no", "external_id")
    }
    known = [order["bill_reference"].strip().lower() in numbers for order in orders]
    assert known.count(False) == sum(payment.target is None for payment in partner.payments)
