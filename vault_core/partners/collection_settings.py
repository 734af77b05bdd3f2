"""How a partner's payments find their account, and what M-Pesa is told before it takes one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any
from uuid import UUID

from sqlalchemy import JSON, Row, bindparam, text
from sqlalchemy.ext.asyncio import AsyncConnection

from vault_core.audit import record_act
from vault_core.database import in_transaction
from vault_core.errors import InvalidInput
from vault_core.money import Money
from vault_core.partners.partner import Partner
from vault_core.partners.person_limits import load_assign_limit
from vault_core.runtime import Runtime

RULES = ("alias", "loan_number", "savings_number", "external_id", "prefix", "client_number", "phone")
PREFIX_KINDS = ("loan", "savings", "client")
WORDS = ("accept", "refuse")
SWITCH = ("on", "off")
OVERPAYMENTS = ("post_all", "to_savings", "hold")
_LONGEST_PREFIX = 12

RuleGroups = tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class CollectionSettings:
    """One partner's.

    `match_rules`: groups of rules, tried in order; the first that finds any account decides, and within it accounts compete.
    By default loan and savings numbers compete, because Mifos X counts them apart and they can be equal. A bare client number is
    no default: it can equal somebody else's loan number with a digit gone wrong.
    """

    match_rules: RuleGroups = (("alias",), ("loan_number", "savings_number", "external_id"), ("prefix",), ("phone",))
    prefixes: Mapping[str, str] = field(
        default_factory=lambda: {
            "L": "loan",
            "LOAN": "loan",
            "S": "savings",
            "SAV": "savings",
            "SAVINGS": "savings",
            "C": "client",
            "CLIENT": "client",
        }
    )
    validation: str = "on"  # off: M-Pesa is always told yes
    when_unknown: str = "accept"  # the mirror is old, the database slow, the question unreadable
    closed_accounts: str = "refuse"  # of accounts that certainly take no payment
    least: Money | None = None
    most: Money | None = None
    overpayment: str = "post_all"  # more than is owed on a loan: all to the loan, the rest to the client's savings, or suspense
    assign_alone_up_to: Money | None = None  # above it a second person agrees to an account; None: the installation's limit

    def __post_init__(self) -> None:
        if self.least is not None and self.least <= Money(0):
            raise InvalidInput("the least a payment may be must be above zero; leave it out for no limit")
        if self.most is not None and self.most < (self.least or Money(1)):
            raise InvalidInput(f"the most a payment may be ({self.most}) is below the least")

    def to_json(self) -> dict[str, Any]:
        """As `vault partner collections --json` shows it and the audit trail keeps it."""
        return {
            "match_rules": ["+".join(group) for group in self.match_rules],
            "prefixes": dict(self.prefixes),
            "validation": self.validation,
            "when_unknown": self.when_unknown,
            "closed_accounts": self.closed_accounts,
            "least_cents": None if self.least is None else self.least.cents,
            "most_cents": None if self.most is None else self.most.cents,
            "overpayment": self.overpayment,
            "assign_alone_up_to_cents": None if self.assign_alone_up_to is None else self.assign_alone_up_to.cents,
        }


def read_rules(value: Any) -> RuleGroups:
    """Rules in order, those that compete joined by +: ["alias", "loan_number+savings_number"]. Raises InvalidInput."""
    if not isinstance(value, list | tuple) or not value or not all(isinstance(each, str) for each in value):
        raise InvalidInput(
            'is not a list of rules; write them in order, like ["alias", "loan_number+savings_number+external_id"]'
        )
    groups = tuple(tuple(part.strip() for part in group.split("+")) for group in value)
    named = [rule for group in groups for rule in group]
    for rule in named:
        if rule not in RULES:
            raise InvalidInput(f"{rule[:40]!r} is no rule; there are {', '.join(RULES)}")
        if named.count(rule) > 1:
            raise InvalidInput(f"{rule} stands there twice; remove one")
    return groups


def read_prefixes(value: Any) -> dict[str, str]:
    """What a prefix of a reference names: {L = "loan"}. Prefixes in capitals. Raises InvalidInput."""
    if not isinstance(value, Mapping):
        raise InvalidInput('is not a table of prefixes; write it like { L = "loan", S = "savings" }')
    prefixes: dict[str, str] = {}
    for name, kind in value.items():
        prefix = str(name).strip().upper()
        if not (prefix.isascii() and prefix.isalnum() and not prefix.isdecimal() and len(prefix) <= _LONGEST_PREFIX):
            raise InvalidInput(
                f"{prefix[:20]!r} is no prefix; write at most {_LONGEST_PREFIX} letters and digits, a letter among them"
            )
        if kind not in PREFIX_KINDS:
            raise InvalidInput(f"prefix {prefix} names {str(kind)[:20]!r}; write one of {', '.join(PREFIX_KINDS)}")
        prefixes[prefix] = str(kind)
    return prefixes


_LOAD = text("SELECT * FROM collection_settings WHERE partner_id = ANY(:ids)")
_WRITE = text(
    """
    INSERT INTO collection_settings (partner_id, match_rules, prefixes, validation, when_unknown, closed_accounts, least_cents,
                                     most_cents, overpayment, assign_alone_up_to_cents)
    VALUES (:partner_id, :match_rules, :prefixes, :validation, :when_unknown, :closed_accounts, :least_cents, :most_cents,
            :overpayment, :assign_alone_up_to_cents)
    ON CONFLICT (partner_id) DO UPDATE SET match_rules = excluded.match_rules, prefixes = excluded.prefixes,
        validation = excluded.validation, when_unknown = excluded.when_unknown, closed_accounts = excluded.closed_accounts,
        least_cents = excluded.least_cents, most_cents = excluded.most_cents, overpayment = excluded.overpayment,
        assign_alone_up_to_cents = excluded.assign_alone_up_to_cents
    """
).bindparams(bindparam("prefixes", type_=JSON))
_TURN = text("SELECT pg_advisory_xact_lock(hashtextextended('collection settings ' || CAST(:partner_id AS text), 0))")


async def load_collection_settings(connection: AsyncConnection, ids: Sequence[UUID]) -> dict[UUID, CollectionSettings]:
    """The settings of each of the partners `ids`; the defaults where none were made."""
    rows = await connection.execute(_LOAD, {"ids": list(ids)})
    return dict.fromkeys(ids, CollectionSettings()) | {row.partner_id: _settings(row) for row in rows}


async def write_collection_settings(connection: AsyncConnection, partner_id: UUID, settings: CollectionSettings) -> None:
    """Writes all of a partner's settings, in the caller's transaction. Raises InvalidInput for one above the installation's."""
    limit = await load_assign_limit(connection)
    if settings.assign_alone_up_to is not None and settings.assign_alone_up_to > limit:
        raise InvalidInput(
            f"assign_alone_up_to {settings.assign_alone_up_to} is above {limit}, the limit of this installation, which "
            "VAULT_ASSIGN_ALONE_UP_TO and `vault up` change"
        )
    await connection.execute(_WRITE, {"partner_id": partner_id, **settings.to_json()})


async def set_collection_settings(
    runtime: Runtime, partner: Partner, changes: Mapping[str, Any], *, actor: str
) -> CollectionSettings:
    """Changes those settings that `changes` names (fields of CollectionSettings), and returns all. Audited.

    A repeat changes nothing. Running processes use them within seconds. Raises InvalidInput for an unknown word.
    """
    _check(changes)

    async def work(connection: AsyncConnection) -> CollectionSettings:
        await connection.execute(_TURN, {"partner_id": str(partner.id)})
        before = (await load_collection_settings(connection, [partner.id]))[partner.id]
        after = replace(before, **changes)
        if after == before:
            return before
        await write_collection_settings(connection, partner.id, after)
        await record_act(
            connection,
            runtime.clock,
            runtime.new_id,
            actor=actor,
            act="collections.settings_set",
            subject=f"collections of {partner.name}",
            partner_id=partner.id,
            before=before.to_json(),
            after=after.to_json(),
        )
        return after

    return await in_transaction(runtime.engine, work)


def _check(changes: Mapping[str, Any]) -> None:
    choices = {"validation": SWITCH, "when_unknown": WORDS, "closed_accounts": WORDS, "overpayment": OVERPAYMENTS}
    for name, value in changes.items():
        if name not in {each.name for each in fields(CollectionSettings)}:
            raise InvalidInput(f"there is no setting {name!r} of collections")
        if name in choices and value not in choices[name]:
            raise InvalidInput(f"{name} {str(value)[:20]!r} is none of the choices; write {' or '.join(choices[name])}")


def _settings(row: Row[Any]) -> CollectionSettings:
    return CollectionSettings(
        match_rules=tuple(tuple(group.split("+")) for group in row.match_rules),
        prefixes=row.prefixes,
        validation=row.validation,
        when_unknown=row.when_unknown,
        closed_accounts=row.closed_accounts,
        least=None if row.least_cents is None else Money(row.least_cents),
        most=None if row.most_cents is None else Money(row.most_cents),
        overpayment=row.overpayment,
        assign_alone_up_to=None if row.assign_alone_up_to_cents is None else Money(row.assign_alone_up_to_cents),
    )
