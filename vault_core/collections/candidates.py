"""What a payer may have meant whose reference named no account: near ones, scored, each saying why. For a person to choose from.

Pure rules. The scores only order what a person sees; no score is high enough to post by.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from vault_core.collections.matching import CURRENCY, ENDS, Candidate, KnownAccount, Reference, Unmatched, compact, name_of

MOST = 5
_DIGITS = "0123456789"
_SIGNS = _DIGITS + "ABCDEFGHIJKLMNOPQRSTUVWXYZ-"
_LONGEST_NEAR = 24  # a reference has 20 signs at most; keeps what is looked for in bounds

_SAME, _PERSON, _ZEROS, _SWAPPED, _ONE_SIGN, _PAYER, _BESIDE = 95, 80, 85, 70, 65, 70, 60
_ALSO, _NAMED, _CANNOT_TAKE = 5, 10, 40


@dataclass(frozen=True, slots=True)
class Payer:
    """What is known of who paid: the phone only when it came in clear, the name often only its first word."""

    phone_hash: bytes | None = field(default=None, repr=False)
    name: str | None = field(default=None, repr=False)


def near_keys(number: str) -> frozenset[str]:
    """All that differs from `number` by one sign too many, too few or wrong, or by two neighbours swapped; not itself.

    Signs are digits alone when all of `number` are. Empty for one that is shorter than three signs or far too long.
    """
    if not 3 <= len(number) <= _LONGEST_NEAR:  # noqa: PLR2004 - shorter ones are near to everything
        return frozenset()
    signs = _DIGITS if number.isdecimal() else _SIGNS
    cuts = [(number[:at], number[at:]) for at in range(len(number) + 1)]
    near = {head + tail[1:] for head, tail in cuts if tail}
    near |= {head + sign + tail[1:] for head, tail in cuts if tail for sign in signs}
    near |= {head + sign + tail for head, tail in cuts for sign in signs}
    return frozenset(near | _swapped(number)) - {number}


def with_candidates(
    unmatched: Unmatched, reference: Reference, near: Sequence[KnownAccount], payer: Payer, phone_hash: bytes | None
) -> Unmatched:
    """The same with the best candidates among its bearers and `near`; `phone_hash` is that of a phone that was typed."""
    by_key = {one.key: one for one in near}
    for one in unmatched.bearers:  # read in Mifos X just now, while near ones are of the mirror
        key = (one.kind, one.id)
        by_key[key] = replace(by_key.get(key, KnownAccount(one)), account=one)
    owners = {one.client_id: name_of(one) for one in unmatched.bearers if one.client_id is not None}
    bearers = {(one.kind, one.id) for one in unmatched.bearers}
    scored = [
        candidate
        for key, one in by_key.items()
        if (candidate := _candidate(one, key in bearers, owners, reference, payer, phone_hash)) is not None
    ]
    best = sorted(scored, key=lambda each: (-each.score, each.account.kind, each.account.id))
    return replace(unmatched, candidates=tuple(best[:MOST]))


def _candidate(
    known: KnownAccount,
    bearer: bool,  # noqa: FBT001 - one of the facts that are weighed
    owners: dict[int, str],
    reference: Reference,
    payer: Payer,
    phone_hash: bytes | None,
) -> Candidate | None:
    account = known.account
    found = [(_SAME, "the reference names it")] if bearer else []
    found += _by_number(known, reference)
    if phone_hash is not None and known.phone_hash == phone_hash:
        found.append((_PERSON, "the reference is its client's phone"))
    elif payer.phone_hash is not None and known.phone_hash == payer.phone_hash:
        found.append((_PAYER, "the payer's phone is its client's"))
    if not bearer and account.client_id in owners:
        found.append((_BESIDE, f"of the client of {owners[account.client_id]}"))
    if not found:
        return None
    score = max(points for points, _ in found) + _ALSO * (len(found) - 1)
    why = "; ".join(words for _, words in found)
    if _share_a_name(payer.name, account.client_name):
        score, why = score + _NAMED, f"{why}; the payer's name is its client's"
    if not account.active:
        score, why = score - _CANNOT_TAKE, f"{why}; but it {ENDS[account.state]}"
    elif account.currency != CURRENCY:
        score, why = score - _CANNOT_TAKE, f"{why}; but it is kept in {account.currency[:10]}"
    return Candidate(account, max(1, min(99, score)), why)


def _by_number(known: KnownAccount, reference: Reference) -> list[tuple[int, str]]:
    if not reference.compact:
        return []
    names = [compact(name) for name in (known.account.account_no, known.account.external_id) if name]
    if known.client_no is not None and known.client_no in reference.numbers:
        return [(_PERSON, "the reference is its client's number")]
    for number in reference.numbers:
        if number.lstrip("0") and any(name.lstrip("0") == number.lstrip("0") for name in names if name != number):
            return [(_ZEROS, "the same number but for leading zeros")]
        if not _swapped(number).isdisjoint(names):
            return [(_SWAPPED, "two signs of the reference are swapped")]
        if not near_keys(number).isdisjoint(names):
            return [(_ONE_SIGN, "one sign away from the reference")]
    return []


def _swapped(number: str) -> frozenset[str]:
    pairs = range(len(number) - 1)
    return frozenset(number[:at] + number[at + 1] + number[at] + number[at + 2 :] for at in pairs) - {number}


def _share_a_name(payer: str | None, client: str | None) -> bool:
    return payer is not None and client is not None and not set(payer.upper().split()).isdisjoint(client.upper().split())
