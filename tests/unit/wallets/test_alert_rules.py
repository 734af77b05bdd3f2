import pytest

from vault_core.money import ZERO, Money
from vault_core.wallets.alerts import is_low, is_over


@pytest.mark.parametrize(("available", "low"), [(99, True), (100, False), (101, False), (-5, True)])
def test_a_wallet_is_low_under_its_threshold(*, available: int, low: bool) -> None:
    assert is_low(Money(available), Money(100)) is low


def test_no_threshold_means_no_alert() -> None:
    assert not is_low(Money(-5), ZERO)


@pytest.mark.parametrize(("available", "over"), [(99, False), (100, False), (119, False), (120, True)])
def test_a_shortage_is_over_only_with_room_to_spare(*, available: int, over: bool) -> None:
    assert is_over(Money(available), Money(100)) is over
