"""The part of the day of the lender whose Mifos X is a running server. A pure function of the seed and the run's number.

The server keeps what earlier runs made; external ids, phones and product names are unique in it, so the run's number is in all.
"""

import random
from enum import StrEnum

from local_stack.demo.day_plan import (
    FIRST_NAMES,
    LAST_NAMES,
    Found,
    PlannedClient,
    PlannedLoan,
    PlannedPartner,
    PlannedPayment,
    PlannedSavings,
)

HOST = "live"
_RUNNING = 10
_SAVINGS = 5
_PAYMENTS = 60
_SMALL_LOAN = 8_000
_PHONES = 100_000_000
_CHARGES_A_LOAN = 200  # more than M-Pesa's fee, ours, the excise and two texts


class Place(StrEnum):
    """What a running loan is there for; the clients of SHARED and RIGHT have a savings account each, too."""

    OVERPAID = "overpaid"  # takes more than is owed on it
    SHARED = "shared"  # of what is paid on it the rest goes to savings
    CLOSED = "closed"  # paid off at the counter, before a customer pays to it
    WRONG = "wrong"  # what is posted to it belongs elsewhere
    RIGHT = "right"  # where that belongs


RUNNING_LOANS = _RUNNING + len(Place)  # each of a client of its own


def plan_live(seed: int, run: int, loans: int) -> PlannedPartner:
    """`loans` approved loans, every other one found by hook, and a few customers' payments. `run` is new for every run."""
    chance = random.Random(f"{seed} live")  # noqa: S311 - a plan, not a secret
    clients = [
        PlannedClient(number, f"{chance.choice(FIRST_NAMES)} {chance.choice(LAST_NAMES)}", f"07{(run + number) % _PHONES:08d}")
        for number in range(1, loans + RUNNING_LOANS + 1)
    ]
    approved = [
        PlannedLoan(
            number,
            number,
            1,
            chance.randrange(1_000, 50_000, 50),
            chance.choice([0, 0, 0, 150, 300]),
            Found.POLL if number % 2 else Found.HOOK,
        )
        for number in range(1, loans + 1)
    ]
    running = [
        PlannedLoan(number, number, 1, chance.randrange(40_000, 60_000, 100), 0, None)
        for number in range(loans + 1, loans + _RUNNING + 1)
    ]
    last = loans + _RUNNING
    placed = [PlannedLoan(number, number, 1, _SMALL_LOAN, 0, None, role=place) for number, place in enumerate(Place, last + 1)]
    savings = [PlannedSavings(number, loans + number) for number in range(1, _SAVINGS + 1)]
    both = [loan for loan in placed if loan.role in {Place.SHARED, Place.RIGHT}]
    savings += [PlannedSavings(number, loan.client, loan.role) for number, loan in enumerate(both, _SAVINGS + 1)]
    return PlannedPartner(
        name="live",
        display_name="Live Lender",
        host=HOST,
        live=True,
        products=(f"Vault Demo {_letters(run)}",),
        external_prefix=f"LIVE{run}",
        b2c_short_code="600300",
        c2b_short_code="700300",
        system_fee=30,
        collections=None,
        first_top_up=loans * _CHARGES_A_LOAN + 5_000,
        second_top_up=0,
        clients=tuple(clients),
        loans=tuple(approved + running + placed),
        savings=tuple(savings),
        payments=tuple(_payment(chance, number, loans, clients) for number in range(1, _PAYMENTS + 1)),
        every_feed=True,
    )


def _payment(chance: random.Random, number: int, loans: int, clients: list[PlannedClient]) -> PlannedPayment:
    # By external id only: a client, a loan and a savings account of a real server may share an account number.
    kind, account = ("savings", chance.randrange(1, _SAVINGS + 1)) if number % 4 == 0 else ("loan", loans + number % _RUNNING + 1)
    payer = chance.choice(clients).phone or ""
    return PlannedPayment(number, payer, chance.randrange(50, 3_000, 10), (kind, account), "external")


def _letters(run: int) -> str:
    """The run's number in 26 letters; the last four of them are the short name of the run's product."""
    text = ""
    while run:
        run, digit = divmod(run, 26)
        text = chr(ord("A") + digit) + text
    return text
