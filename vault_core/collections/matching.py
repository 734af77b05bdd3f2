"""Which account a payment is for: pure rules over what the payer typed and which accounts there are (DESIGN.md section 5).

Nothing is guessed. What is not certain goes to suspense with its reason and its candidates, and a person decides. The same rules
answer M-Pesa's question before a payment (validation.py), over the mirror alone.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from vault_core.clients.mifos_values import OPEN_STATES, AccountState, FoundAccount
from vault_core.errors import InvalidInput
from vault_core.partners.collection_settings import CollectionSettings
from vault_core.phones import normalise_phone

CURRENCY = "KES"
NOBODY = "no loan or savings account has this number or external id"
UNREADABLE = "the reference is empty or holds signs that no account number has"

_SEARCHABLE = re.compile(r"[A-Za-z0-9-]{1,50}")
_WRITTEN_PHONE = re.compile(r"(0|254)[0-9]+")  # a bare 7XXXXXXXX could as well be an account number
_OF_A_PERSON = {"client_number", "phone"}

ENDS = {
    AccountState.PENDING: "is not approved yet",
    AccountState.APPROVED: "is approved but not paid out or opened yet",
    AccountState.BLOCKED: "is blocked for credits in Mifos X",
    AccountState.TRANSFER: "is being transferred to another office",
    AccountState.OVERPAID: "is overpaid already",
    AccountState.CLOSED: "is closed",
    AccountState.WRITTEN_OFF: "is written off",
    AccountState.REJECTED: "was rejected or withdrawn",
    AccountState.OTHER: "is in a state that takes no payment",
}


@dataclass(frozen=True, slots=True)
class Reference:
    """What a payer typed, read. `compact` is empty where nothing may be looked for: it never holds a wildcard.

    `phone`: it is a whole phone number, in its one written form. `prefixed`: (kind, number) for each prefix it begins with.
    """

    compact: str = field(repr=False)
    phone: str | None = field(repr=False)
    prefixed: tuple[tuple[str, str], ...] = field(repr=False)

    @property
    def numbers(self) -> tuple[str, ...]:
        """All that may be an account's or client's number or external id."""
        return tuple(dict.fromkeys((self.compact, *(number for _, number in self.prefixed)))) if self.compact else ()


@dataclass(frozen=True, slots=True)
class KnownAccount:
    """An account with what else it can be recognised by.

    `alias`: people said that the reference stands for it; `said_alone_by`: who, where it was one person.
    """

    account: FoundAccount
    client_no: str | None = None
    phone_hash: bytes | None = field(default=None, repr=False)
    alias: bool = False
    said_alone_by: str | None = None

    @property
    def key(self) -> tuple[str, int]:
        """Which account it is, at its partner."""
        return (self.account.kind, self.account.id)


@dataclass(frozen=True, slots=True)
class Candidate:
    """An account that the payer may have meant. `score` from 0 to 100 orders them; `why` is for a person."""

    account: FoundAccount
    score: int
    why: str


@dataclass(frozen=True, slots=True)
class Matched:
    """The one account the payment is for."""

    account: FoundAccount


@dataclass(frozen=True, slots=True)
class Unmatched:
    """No account, and why: `reason` is for a person, `candidates` come best first.

    `bearers` are the accounts that the reference does name, none of which may be chosen; empty: there is no such account.
    """

    reason: str
    candidates: tuple[Candidate, ...] = ()
    bearers: tuple[FoundAccount, ...] = ()


Match = Matched | Unmatched


def normalise_reference(typed: str) -> str:
    """The one form of a bill reference: trimmed, inner spaces collapsed, case folded. Leading zeros stay; it is idempotent."""
    return " ".join(typed.upper().split())


def compact(typed: str) -> str:
    """A reference or a number as it is compared: without white space, in capitals."""
    return "".join(typed.upper().split())


def read_reference(typed: str, settings: CollectionSettings) -> Reference:
    """Reads what a payer typed. Any case and any white space read the same."""
    kept = "".join(typed.split())
    if not _SEARCHABLE.fullmatch(kept):
        return Reference("", _phone(kept), ())
    whole = kept.upper()
    prefixed = [
        (kind, number)
        for prefix, kind in sorted(settings.prefixes.items())
        if whole.startswith(prefix) and (number := whole[len(prefix) :].removeprefix("-"))
    ]
    return Reference(whole, _phone(kept), tuple(dict.fromkeys(prefixed)))


def search_terms(typed: str) -> tuple[str, ...]:
    """What to look for in Mifos X, in order: as typed, in capitals, in small letters, without spaces. Empty: nothing can match.

    Mifos X searches with LIKE, where `%` and `_` in a payer's text would match everything, and PostgreSQL tells capitals from
    small letters: hence the white list and the spellings (reference/fineract.md section 5).
    """
    kept = "".join(typed.split())
    if not _SEARCHABLE.fullmatch(kept):
        return ()
    return tuple(dict.fromkeys((kept, kept.upper(), kept.lower())))


@dataclass(frozen=True, slots=True)
class Named:
    """The accounts that a reference names alike. `by_person`: because it names their client, not them."""

    accounts: tuple[KnownAccount, ...]
    by_person: bool


def match(
    reference: Reference, known: Sequence[KnownAccount], settings: CollectionSettings, *, phone_hash: bytes | None = None
) -> Match:
    """The account among `known` that `reference` names by the partner's rules, or why there is none."""
    named = find_named(reference, known, settings, phone_hash=phone_hash)
    if named is None:
        return Unmatched(NOBODY if reference.compact or reference.phone else UNREADABLE)
    return decide([one.account for one in named.accounts], by_person=named.by_person)


def find_named(
    reference: Reference, known: Sequence[KnownAccount], settings: CollectionSettings, *, phone_hash: bytes | None = None
) -> Named | None:
    """The accounts among `known` that `reference` names; None: there are none. `phone_hash` is that of `reference.phone`.

    Groups of rules are tried in order and the first that finds any account decides, for good or ill: a closed loan of the number
    typed is not passed over for somebody else's account that a later rule finds.
    """
    for group in settings.match_rules:
        bearers = {one.key: one for one in known if any(_bears(rule, one, reference, phone_hash) for rule in group)}
        if bearers:
            return Named(tuple(bearers[key] for key in sorted(bearers)), _names_a_person(group, reference))
    return None


def decide(bearers: Sequence[FoundAccount], *, by_person: bool = False) -> Match:
    """The one of `bearers` (at least one, which a reference names alike) that takes the payment, or why none does.

    Exactly one that is open is the one. An active loan is chosen beside a closed savings account of its number, but an active
    savings account beside a loan of somebody else is not, because the payer may have meant that loan. `by_person`: they are all
    the accounts of whom the reference names, and any account of another client then forbids to choose.
    """
    open_ones = [one for one in bearers if one.state in OPEN_STATES]
    if not open_ones:
        return _unmatched("; ".join(f"{name_of(one)} {ENDS[one.state]}" for one in bearers), bearers)
    if len(open_ones) > 1:
        return _unmatched(f"the reference fits more than one open account: {_list(open_ones)}", bearers)
    chosen = open_ones[0]
    others = [one for one in bearers if (by_person or one.kind == "loan") and one is not chosen and not _same_client(one, chosen)]
    if others and (by_person or chosen.kind == "savings"):
        whose = "is another client's" if by_person else "of another client has the same number"
        return _unmatched(f"{name_of(chosen)} is active but {_list(others)} {whose}", bearers)
    if not chosen.active:
        return _unmatched(f"{name_of(chosen)} {ENDS[chosen.state]}", bearers)
    if chosen.currency != CURRENCY:
        return _unmatched(f"{name_of(chosen)} is kept in {chosen.currency[:10]}, and the payment is in {CURRENCY}", bearers)
    return Matched(chosen)


def name_of(account: FoundAccount) -> str:
    """An account in a text for people."""
    return f"{account.kind} {account.account_no}"


def _unmatched(reason: str, bearers: Sequence[FoundAccount]) -> Unmatched:
    return Unmatched(reason, bearers=tuple(bearers))


def _bears(rule: str, known: KnownAccount, reference: Reference, phone_hash: bytes | None) -> bool:
    account = known.account
    if rule == "alias":
        return known.alias
    if rule == "phone":
        return phone_hash is not None and known.phone_hash == phone_hash
    if not reference.compact:
        return False
    if rule == "prefix":
        return any(
            number == (known.client_no if kind == "client" else _number(account, kind)) for kind, number in reference.prefixed
        )
    if rule == "external_id":
        return compact(account.external_id or "") == reference.compact
    if rule == "client_number":
        return known.client_no == reference.compact
    return _number(account, rule.removesuffix("_number")) == reference.compact


def _number(account: FoundAccount, kind: str) -> str | None:
    return compact(account.account_no) if account.kind == kind else None


def _names_a_person(group: Sequence[str], reference: Reference) -> bool:
    """Whether what a group found are all the accounts of a client, not accounts that bear the reference themselves."""
    by_prefix = "prefix" in group and any(kind == "client" for kind, _ in reference.prefixed)
    return by_prefix or not _OF_A_PERSON.isdisjoint(group)


def _phone(kept: str) -> str | None:
    digits = kept.removeprefix("+")
    if not _WRITTEN_PHONE.fullmatch(digits):
        return None
    try:
        return normalise_phone(digits)
    except InvalidInput:
        return None


def _same_client(one: FoundAccount, other: FoundAccount) -> bool:
    return one.client_id is not None and one.client_id == other.client_id


def _list(accounts: Sequence[FoundAccount]) -> str:
    return ", ".join(name_of(one) for one in accounts)
