"""When a payout that definitely failed is tried again."""

import random
from datetime import datetime, time, timedelta

from vault_core.clock import NAIROBI, business_day
from vault_core.disbursements.result_classes import ResultClass
from vault_core.settings import Pace

_MORNING = time(6)  # limits of a day are counted from midnight; nobody should be paid, and texted, at night
_SPREAD = timedelta(minutes=30)


def next_payout_try(now: datetime, tries: int, result_class: ResultClass, pace: Pace, chance: random.Random) -> datetime | None:
    """The moment of the next instruction after `tries` of them failed, or None if there shall be no more by itself.

    RETRY_LATER doubles from `payout_retry_base` with up to half taken off by chance; RETRY_NEXT_DAY waits for the next morning in
    Nairobi, spread over half an hour. Both stop after `payout_retry_tries` instructions.
    """
    if tries >= pace.payout_retry_tries:
        return None
    if result_class is ResultClass.RETRY_NEXT_DAY:
        morning = datetime.combine(business_day(now) + timedelta(days=1), _MORNING, NAIROBI)
        return morning.astimezone(now.tzinfo) + _SPREAD * chance.random()
    if result_class is ResultClass.RETRY_LATER:
        longest = pace.payout_retry_base * 2.0 ** (tries - 1)
        return now + timedelta(seconds=longest * (1 - 0.5 * chance.random()))
    return None
