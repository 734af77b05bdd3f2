"""Which account a payment is for: pure rules over what the payer typed and what Mifos X found (DESIGN.md section 5).

Nothing is guessed. What is not certain goes to suspense with its reason, and a person decides.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from vault_core.clients.mifos_values import FoundAccount

_SEARCHABLE = re.compile(r"[A-Za-z0-9-]{1,50}")


@dataclass(frozen=True, slots=True)
class Matched:
    """The one account the payment is for."""

    account: FoundAccount


@dataclass(frozen=True, slots=True)
class Unmatched:
    """No account, and why: `reason` is for a person, `candidates` are the accounts that were looked at."""

    reason: str
    candidates: tuple[FoundAccount, ...] = ()


Match = Matched | Unmatched


def normalise_reference(typed: str) -> str:
    """The one form of a bill reference: trimmed, inner spaces collapsed, case folded. Leading zeros stay; it is idempotent."""
    return " ".join(typed.upper().split())


def search_terms(typed: str) -> tuple[str, ...]:
    """What to look for in Mifos X, in order: as typed, in capitals, in small letters, without spaces. Empty: nothing can match.

    Mifos X searches with LIKE, where `%` and `_` in a payer's text would match everything, and PostgreSQL tells capitals from
    small letters: hence the white list and the spellings (reference/fineract.md section 5).
    """
    compact = "".join(typed.split())
    if not _SEARCHABLE.fullmatch(compact):
        return ()
    return tuple(dict.fromkeys((compact, compact.upper(), compact.lower())))


def choose_account(typed: str, found: Sequence[FoundAccount]) -> Match:
    """The account among `found` (by any of the search terms) that `typed` names, or why there is none.

    Exactly one account that is active and bears the number or external id is the one. Loan and savings numbers are counted
    apart in Mifos X and may be equal: an active loan is chosen beside a closed savings account of that number, but an active
    savings account beside a loan of somebody else is not, because the payer may have meant that loan.
    """
    by_account = {(one.kind, one.id): one for one in found if _bears(one, typed)}
    bearers = tuple(by_account[key] for key in sorted(by_account))
    if not bearers:
        return Unmatched("no loan or savings account has this number or external id")
    active = [one for one in bearers if one.active]
    if not active:
        return Unmatched(f"{_list(bearers)} {'is' if len(bearers) == 1 else 'are'} not active", bearers)
    if len(active) > 1:
        return Unmatched(f"the reference fits more than one active account: {_list(active)}", bearers)
    chosen = active[0]
    others = [one for one in bearers if one.kind == "loan" and one is not chosen and not _same_client(one, chosen)]
    if chosen.kind == "savings" and others:
        return Unmatched(f"{_list([chosen])} is active but {_list(others)} of another client has the same number", bearers)
    return Matched(chosen)


def _bears(account: FoundAccount, typed: str) -> bool:
    wanted = "".join(typed.split()).upper()
    return bool(wanted) and wanted in (account.account_no.upper(), (account.external_id or "").upper())


def _same_client(one: FoundAccount, other: FoundAccount) -> bool:
    return one.client_id is not None and one.client_id == other.client_id


def _list(accounts: Sequence[FoundAccount]) -> str:
    return ", ".join(f"{one.kind} {one.account_no}" for one in accounts)
