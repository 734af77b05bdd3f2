from local_stack.demo.day_plan import Found
from local_stack.demo.live_lender import doubled, misplaced
from local_stack.demo.live_office import LiveMifos
from local_stack.demo.live_plan import plan_live
from local_stack.demo.world import partner_file
from vault_core.partners.partner_file import parse_partner_file


def test_two_runs_share_no_phone_no_external_id_and_no_product() -> None:
    first, second = plan_live(1, 17_000_000_000, 200), plan_live(1, 17_000_000_600, 200)
    assert not {client.phone for client in first.clients} & {client.phone for client in second.clients}
    assert first.external_id("loan", 1) != second.external_id("loan", 1)
    assert first.products != second.products
    assert first.products[0][-4:] != second.products[0][-4:]  # the short name


def test_the_same_run_is_planned_the_same_and_half_its_loans_are_found_by_hook() -> None:
    planned = plan_live(3, 5, 200)
    assert planned == plan_live(3, 5, 200)
    assert len(planned.approved) == 200
    assert sum(loan.found is Found.HOOK for loan in planned.approved) == 100
    assert len({client.phone for client in planned.clients}) == len(planned.clients)


def test_the_wallet_is_rich_enough_for_all_charges_and_every_payment_finds_an_account() -> None:
    planned = plan_live(3, 5, 50)
    assert planned.first_top_up > 50 * 150
    accounts = {("loan", loan.number) for loan in planned.loans if loan.found is None}
    accounts |= {("savings", account.number) for account in planned.savings}
    assert {payment.target for payment in planned.payments} <= accounts


def test_the_lenders_file_leads_to_the_server_whatever_its_password() -> None:
    server = LiveMifos("https://core.example/fineract-provider/api/v1", "tenant", "ops", 'pa"ss\\word')
    described = parse_partner_file(partner_file(plan_live(1, 5, 10), "http://127.0.0.1:1", server))
    assert (described.mifos.url, described.mifos.tenant, described.mifos.user) == (server.url, "tenant", "ops")
    assert described.mifos.password == server.password
    assert "pa" not in repr(server)


def test_a_loan_disbursed_twice_is_told_and_an_undone_one_is_not() -> None:
    def row(*, undone: bool = False) -> dict:
        return {"kind": "disbursement", "amount_cents": 100, "reversed": undone}

    books = {"loans": {7: {"transactions": [row(), row()]}, 8: {"transactions": [row(), row(undone=True)]}}, "savings": {}}
    assert doubled(books) == ["Mifos X: loan 7: 2 disbursements stand on it"]


def standing(**receipts: int) -> dict:
    rows = [
        {"kind": "repayment", "amount_cents": cents, "receipt": receipt, "reversed": False} for receipt, cents in receipts.items()
    ]
    return {"transactions": rows}


def test_a_payment_that_does_not_stand_in_full_or_where_it_belongs_is_told() -> None:
    books = {"loans": {7: standing(AAA=500, BBB=300), 8: standing(CCC=200)}, "savings": {7: standing(BBB=100)}}
    taken = [
        {"receipt": "AAA", "amount_cents": 500},
        {"receipt": "BBB", "amount_cents": 400},
        {"receipt": "CCC", "amount_cents": 200},
    ]
    shared = {("loan", 7): 300, ("savings", 7): 100}
    assert misplaced(books, taken, {"BBB": shared, "CCC": {("loan", 8): 200}}) == []
    assert [finding.split()[3] for finding in misplaced(books, taken, {"CCC": {("loan", 7): 200}})] == ["CCC"]
    assert [finding.split()[3] for finding in misplaced(books, taken, {"BBB": {}})] == ["BBB"]
    assert [finding.split()[2] for finding in misplaced(books, taken[:2], {})] == ["CCC"]
    doubled_one = books | {"savings": {7: standing(AAA=500, BBB=100)}}
    assert [finding.split()[3] for finding in misplaced(doubled_one, taken, {})] == ["AAA"]
    given_back = [{"receipt": "DDD", "amount_cents": 100}]
    assert misplaced(books, [*taken, *given_back], {"DDD": {}}) == []
