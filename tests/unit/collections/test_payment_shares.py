"""What a client is told of a payment that several accounts share."""

from types import SimpleNamespace
from uuid import UUID

from vault_core.collections.receipts import Receipt, ToldAccount
from vault_core.money import Money
from vault_core.notifications.templates import render

UMOJA = SimpleNamespace(id=UUID(int=1), display_name="Umoja Credit")


def share(kind, number, cents, *, owner=1, overpaid=0):
    return ToldAccount(kind, number, Money(cents), Money(1_000_00), Money(overpaid), owner)


def told(*accounts):
    cents = sum(one.amount.cents for one in accounts)
    receipt = Receipt(UUID(int=2), "600100", "SHARED0001", Money(cents), accounts, "", "254712000001")
    message = receipt.message(UMOJA)
    assert message is not None
    return render(message.template, message.values, partner="Umoja Credit")


def test_every_share_is_told_however_many_there_are():
    assert told(share("loan", "000000011", 500_00), share("savings", "000000021", 200_00), share("loan", "000000012", 50_00)) == (
        "Received KES 750.00. Receipt SHARED0001: KES 500.00 for loan 000000011, new balance KES 1,000.00; "
        "KES 200.00 for savings 000000021, new balance KES 1,000.00; KES 50.00 for loan 000000012, new balance KES 1,000.00. "
        "Thank you. Umoja Credit"
    )
    many = told(*(share("savings", f"{number:09d}", 1_000_000_00) for number in range(6)))
    assert many.count("new balance") == 6  # none is cut off


def test_one_account_is_told_as_ever_and_nobody_hears_of_another_clients_balance():
    assert told(share("loan", "000000011", 500_00, overpaid=20_00)) == (
        "Received KES 500.00 for loan 000000011. Receipt SHARED0001. New balance KES 1,000.00 (KES 20.00 overpaid). Thank you. "
        "Umoja Credit"
    )
    said = told(share("loan", "000000011", 500_00), share("loan", "000000012", 50_00, owner=2))
    assert "KES 50.00 for loan 000000012. Thank you" in said
