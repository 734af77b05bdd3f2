from uuid import uuid4

import pytest

from vault_core.errors import InvalidInput
from vault_core.ledger.chart import CHART, AccountRef


def test_a_partners_account_needs_a_partner() -> None:
    with pytest.raises(InvalidInput, match="belongs to a partner"):
        AccountRef(None, "wallet")


def test_the_houses_account_has_no_partner() -> None:
    with pytest.raises(InvalidInput, match="belongs to the house"):
        AccountRef(uuid4(), "fees:sms")


def test_an_account_outside_the_chart_is_refused() -> None:
    with pytest.raises(InvalidInput, match="not in the chart"):
        AccountRef(uuid4(), "pocket")


def test_an_account_that_can_be_held_on_is_one_row() -> None:
    assert all(account.shards == 1 for account in CHART.values() if account.holdable)
