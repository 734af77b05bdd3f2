"""How payments find their account: the mirror says where to look, Mifos X is asked before anything is posted."""

import pytest
from sqlalchemy import text

from tests.integration.collections.conftest import Umoja
from vault_core.clients.mifos_values import AccountState, FoundAccount
from vault_core.collections.aliases import add_alias, list_aliases, remove_alias
from vault_core.collections.mirror_refresh import refresh_mirrors
from vault_core.errors import Conflict, InvalidInput, NotFound
from vault_core.partners.collection_settings import set_collection_settings


def loan(account_id: int) -> FoundAccount:
    return FoundAccount("loan", account_id, f"{account_id:09d}", None, None, None, AccountState.ACTIVE, "KES")


@pytest.fixture
async def mirrored(umoja: Umoja) -> Umoja:
    await refresh_mirrors(umoja.runtime, umoja.connections)
    return umoja


async def alias(umoja: Umoja, reference: str, account_id: int) -> None:
    async with umoja.runtime.engine.begin() as connection:
        await add_alias(connection, umoja.runtime, umoja.partner.id, reference, loan(account_id), actor="ops:test")


async def candidates(umoja: Umoja) -> list[tuple[str, int, int, str]]:
    [case] = await umoja.cases()
    return [(one["kind"], one["id"], one["score"], one["why"]) for one in case.evidence["candidates"]]


@pytest.mark.parametrize(
    ("reference", "kind", "account_id"),
    [
        ("L 000000021", "loans", 21),
        ("sav-000000021", "savings", 21),
        ("c000000003", "loans", 14),
        ("ln - 1001", "loans", 11),
        ("mama NJERI", "loans", 12),
    ],
)
async def test_a_payment_finds_its_account_by_prefix_client_external_id_and_alias(mirrored, reference, kind, account_id):
    await alias(mirrored, "Mama Njeri", 12)
    await mirrored.pay("R1", 500_00, reference)
    await mirrored.work()

    assert await mirrored.posted_to(kind, account_id) == [("R1", 500_00)]


@pytest.mark.parametrize("reference", ["000000011", " 0000 00011", "ln-1001"])
async def test_the_number_of_an_open_account_cannot_be_made_to_stand_for_another(mirrored, reference):
    with pytest.raises(Conflict, match="is the number of loan 000000011, which is open"):
        await alias(mirrored, reference, 12)
    await alias(mirrored, reference, 11)
    async with mirrored.runtime.engine.begin() as connection:
        await connection.execute(text("UPDATE mifos_accounts SET state = 'closed' WHERE kind = 'loan' AND account_id = 11"))
    await alias(mirrored, reference, 12)  # who still pays by the number of a loan that is paid off


async def test_a_phone_with_one_open_account_is_that_account_and_with_two_is_nobodys_guess(mirrored):
    new = {"clients": [{"id": 4, "first_name": "Ann", "last_name": "Njeri", "mobile_no": "0712000004"}]}
    new["loans"] = [{"id": 31, "client": 4, "product": 1, "principal_cents": 500_00, "status": 300}]
    await mirrored.control("setup", {"mifos": {"alpha": new}})
    mirrored.runtime.clock.pass_time(minutes=2)
    await refresh_mirrors(mirrored.runtime, mirrored.connections)
    await mirrored.pay("R1", 100_00, "0712 000 004")
    await mirrored.work()
    assert await mirrored.posted_to("loans", 31) == [("R1", 100_00)]

    # A savings account that the mirror has not seen yet: Mifos X is asked for the client's accounts as they are now.
    await mirrored.control("setup", {"mifos": {"alpha": {"savings": [{"id": 32, "client": 4}]}}})
    await mirrored.pay("R2", 100_00, "0712 000 004")
    await mirrored.work()
    row = await mirrored.collection("R2")
    assert (row.state, row.reason) == (
        "suspense",
        "the reference fits more than one open account: loan 000000031, savings 000000032",
    )
    assert [(kind, account_id) for kind, account_id, _, _ in await candidates(mirrored)] == [("loan", 31), ("savings", 32)]


async def test_what_mifos_says_now_counts_more_than_the_mirror(mirrored):
    async with mirrored.runtime.engine.begin() as connection:  # as a mirror of an hour ago may be
        await connection.execute(text("UPDATE mifos_accounts SET state = 'closed' WHERE kind = 'loan' AND account_id = 12"))
        await connection.execute(text("UPDATE mifos_accounts SET state = 'active' WHERE kind = 'loan' AND account_id = 13"))
        await connection.execute(text("UPDATE mifos_accounts SET account_no = '000000555' WHERE account_id = 14"))
    for receipt, reference in (("R1", "000000012"), ("R2", "000000013"), ("R3", "000000014"), ("R4", "000000555")):
        await mirrored.pay(receipt, 100_00, reference)
    await mirrored.work()

    assert await mirrored.posted_to("loans", 12) == [("R1", 100_00)]
    assert (await mirrored.collection("R2")).reason == "loan 000000013 is approved but not paid out or opened yet"
    assert await mirrored.posted_to("loans", 14) == [("R3", 100_00)]
    assert (await mirrored.collection("R4")).state == "suspense"


async def test_a_mirror_that_is_not_whole_does_not_hide_another_account_of_the_same_number(mirrored):
    async with mirrored.runtime.engine.begin() as connection:
        await connection.execute(text("DELETE FROM mifos_accounts WHERE kind = 'savings'"))
    mirrored.runtime.clock.pass_time(seconds=mirrored.runtime.pace.mirror_believed_for + 1)
    await mirrored.pay("R1", 100_00, "000000021")
    await mirrored.work()

    assert (await mirrored.collection("R1")).reason == (
        "the reference fits more than one open account: loan 000000021, savings 000000021"
    )


async def test_a_reference_that_the_mirror_does_not_know_is_searched_for_in_mifos(umoja):
    await umoja.pay("R1", 100_00, "ln-1001")
    await umoja.pay("R2", 100_00, "L000000012")
    await umoja.work()

    assert await umoja.posted_to("loans", 11) == [("R1", 100_00)]
    assert await umoja.posted_to("loans", 12) == [("R2", 100_00)]


async def test_a_case_names_near_accounts_with_a_score_and_why(mirrored):
    await mirrored.pay("R1", 100_00, "14")
    await mirrored.work()

    assert await candidates(mirrored) == [("loan", 14, 85, "the same number but for leading zeros")]
    assert (await mirrored.cases())[0].evidence["candidates"][0]["account_no"] == "000000014"


async def test_rules_and_their_order_are_the_partners(mirrored):
    await set_collection_settings(
        mirrored.runtime, mirrored.partner, {"match_rules": (("savings_number",), ("loan_number",))}, actor="ops:test"
    )
    for receipt, reference in (("R1", "000000021"), ("R2", "000000012"), ("R3", "LN-1001")):
        await mirrored.pay(receipt, 100_00, reference)
    await mirrored.work()

    assert await mirrored.posted_to("savings", 21) == [("R1", 100_00)]
    assert await mirrored.posted_to("loans", 12) == [("R2", 100_00)]
    assert (await mirrored.collection("R3")).state == "suspense"
    [act] = [row for row in await mirrored.rows("SELECT * FROM audit_log") if row.act == "collections.settings_set"]
    assert (act.before["match_rules"][0], act.after["match_rules"]) == ("alias", ["savings_number", "loan_number"])


async def test_a_setting_that_does_not_exist_is_refused(mirrored):
    for wrong in ({"when_unknown": "maybe"}, {"wehn_unknown": "accept"}):
        with pytest.raises(InvalidInput):
            await set_collection_settings(mirrored.runtime, mirrored.partner, wrong, actor="ops:test")


async def test_an_alias_is_found_in_any_spelling_replaced_ended_and_audited_without_what_was_typed(mirrored):
    await alias(mirrored, "Mama Njeri", 12)
    await alias(mirrored, " mama  njeri", 12)  # the same again
    await alias(mirrored, "MAMANJERI", 14)
    async with mirrored.runtime.engine.connect() as connection:
        [standing] = await list_aliases(connection, mirrored.runtime, mirrored.partner.id)
    assert (standing.reference, standing.account_no, standing.added_by) == ("MAMANJERI", "000000014", "ops:test")

    async with mirrored.runtime.engine.begin() as connection:
        await remove_alias(connection, mirrored.runtime, mirrored.partner.id, "mama njeri", actor="ops:test")
        assert await list_aliases(connection, mirrored.runtime, mirrored.partner.id) == []
        with pytest.raises(NotFound):
            await remove_alias(connection, mirrored.runtime, mirrored.partner.id, "mama njeri", actor="ops:test")
        with pytest.raises(InvalidInput):
            await add_alias(connection, mirrored.runtime, mirrored.partner.id, "  ", loan(12), actor="ops:test")
    acts = [row for row in await mirrored.rows("SELECT * FROM audit_log") if "alias" in row.act]
    assert sorted(row.act.split("_")[1] for row in acts) == ["added", "added", "removed"]
    assert "njeri" not in str(acts).lower()
