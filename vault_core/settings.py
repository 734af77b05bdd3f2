"""Everything this installation can set, read once from the environment at a process's composition root.

Every setting is a `VAULT_...` variable; `docs/operations.md` lists them. Reading does no I/O except for the master key file.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import timedelta
from enum import StrEnum
from pathlib import Path

from vault_core.errors import ConfigurationError
from vault_core.fault_points import Wish, read_wish
from vault_core.secrets import Sealer, parse_master_key, read_master_key_file

_LONGEST_PORTAL = 80  # it stands in texts, whole
_PORTAL = re.compile(r"https?://[A-Za-z0-9][A-Za-z0-9.:/_-]*")


class FirstServed(StrEnum):
    """Which payouts go first, above all when the float does not suffice for all that wait."""

    OLDEST = "oldest"
    LARGEST = "largest"
    SMALLEST = "smallest"


@dataclass(frozen=True, slots=True)
class Pace:
    """Waiting times and bounds of the business, all settable so that a demo day can pass in minutes. Seconds unless said."""

    poll_every: float = 300.0  # how often a partner's Mifos X is polled for approved loans
    inbox_sweep_after: float = 30.0  # a stored, unprocessed delivery is published again after this, doubling
    outbox_retry_base: float = 5.0  # first wait after a failed call to the outside, doubling with jitter
    outbox_retry_cap: float = 3600.0
    outbox_max_tries: int = 12  # then a case for a person
    outbox_lease: float = 120.0  # how long a claimed call belongs to one worker
    outage_probe_cap: float = 60.0  # between questions to a Mifos X that is away, doubling from outbox_retry_base to this
    outage_told_after: float = 300.0  # an outage that lasts longer is a case
    status_query_after: float = 300.0  # first Transaction Status question about an unanswered payout
    status_query_spacing: float = 600.0
    status_query_tries: int = 6  # then a case for a person
    payout_retry_base: float = 900.0  # after a definite M-Pesa failure that may pass
    payout_retry_tries: int = 5
    unposted_look_every: float = 3600.0  # how often a loan whose posting is with a person is read, in case it was made by hand
    tranche_look_every: float = 3600.0  # how often a tranche loan is read for its next tranche
    wallet_retry_after: float = 60.0  # how often a wallet-short loan is looked at again
    first_served: FirstServed = FirstServed.OLDEST
    batch_lost_after: float = 120.0  # a batch that nothing was claimed of for so long is formed anew: its run was lost
    balance_query_every: float = 300.0  # between questions about a short code's balance, while a payout waits for float
    audit_every: float = 30.0  # how often balances and fees that M-Pesa tells are held against what we paid
    fees_settle_after: float = 120.0  # a payout's fee is judged no sooner: others whose fees were taken before are known by then
    send_within: float = 180.0  # after its claim an instruction is not begun to be sent any more
    b2c_in_flight: int = 64  # B2C requests under way at once, per partner, over all processes
    b2c_per_second: float = 50.0  # B2C requests begun a second, per partner, over all processes; fewer when M-Pesa asks for it
    resolve_alone_up_to: int = 50_000  # KES; above it a second person confirms what one found out about a payout
    top_up_alone_up_to: int = 50_000  # KES; above it a second person confirms that a top-up has reached the bank
    mirror_renew_every: float = 60.0  # how often accounts made since are read from a partner's Mifos X
    mirror_read_every: float = 3600.0  # how often all of them are
    mirror_believed_for: float = 900.0  # after its last renewal the mirror is not believed that an account does not exist
    assign_alone_up_to: int = 50_000  # KES; above it a second person agrees to a payment's account; a partner may have less
    confirmation_late_after: float = 600.0  # a customer's payment that was not confirmed by then has lost its confirmation
    balance_gap_after: float = 120.0  # a payment's balance is held against the others' when so long has passed since
    pull_every: float = 900.0  # how often M-Pesa is asked which payments a pay bill took
    pull_again: float = 3600.0  # how far each such window reaches back into the one before
    feed_answers_kept: float = 90.0  # days that pull answers and validations are kept on which no payment rests
    missed_most: int = 5  # payments of one window without confirmation: from here on a case
    missed_share: float = 0.02  # the same as a share of the payments of the window
    stk_query_after: float = 75.0  # first question about a prompt to pay that was taken
    stk_query_spacing: float = 60.0
    stk_expire_after: float = 900.0  # then no end of a prompt is waited for any more, though its money still is
    http_timeout: float = 30.0
    mifos_writes_at_once: int = 8  # to a partner's Mifos X, per worker; each holds one of the server's database connections
    mifos_write_timeout: float = 75.0  # inline close-of-business can hold a write for long (reference/fineract.md section 4)


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings of one process. `repr` shows no secret: the database URL is left out and the sealer shows key ids only."""

    database_url: str = field(repr=False)
    kafka_bootstrap: str
    sealer: Sealer
    public_url: str  # base of the callback URLs, as M-Pesa and Mifos X reach it, without a slash at the end
    portal_url: str | None  # base of the pages that partners open, without a slash at the end; None: there are none
    reports_dir: Path
    clock_offset: timedelta
    pace: Pace
    fault_point: Wish | None  # only where M-Pesa cannot reach us: vault_core/fault_points.py


def read_settings(environment: Mapping[str, str]) -> Settings:
    """Settings from `environment` (usually os.environ). Raises ConfigurationError naming the variable that is wrong."""
    home = Path(environment.get("VAULT_HOME", ".vault"))
    public_url = environment.get("VAULT_PUBLIC_URL", "http://127.0.0.1:8000").rstrip("/")
    return Settings(
        database_url=sqlalchemy_url(_required(environment, "VAULT_DATABASE_URL")),
        kafka_bootstrap=_required(environment, "VAULT_KAFKA_BOOTSTRAP"),
        sealer=_sealer(environment, home),
        public_url=public_url,
        portal_url=_portal(environment.get("VAULT_PORTAL_URL", "")),
        reports_dir=Path(environment.get("VAULT_REPORTS_DIR", str(home / "reports"))),
        clock_offset=timedelta(seconds=_number(environment, "VAULT_CLOCK_OFFSET_SECONDS", 0.0)),
        pace=read_pace(environment),
        fault_point=read_wish(environment.get("VAULT_FAULT_POINT", ""), public_url),
    )


def sqlalchemy_url(url: str, *, setting: str = "VAULT_DATABASE_URL") -> str:
    """The URL, given in `setting`, with psycopg 3 named as its driver, whatever spelling of `postgresql://` came in."""
    scheme, separator, rest = url.partition("://")
    if not separator or scheme.split("+")[0] not in {"postgresql", "postgres"}:
        raise ConfigurationError(f"{setting} must start with postgresql://")
    return f"postgresql+psycopg://{rest}"


def _sealer(environment: Mapping[str, str], home: Path) -> Sealer:
    if key := environment.get("VAULT_MASTER_KEY"):
        return parse_master_key(key)
    return read_master_key_file(Path(environment.get("VAULT_MASTER_KEY_FILE", str(home / "master.key"))))


def _portal(url: str) -> str | None:
    url = url.strip().rstrip("/")
    if url and (len(url) > _LONGEST_PORTAL or not _PORTAL.fullmatch(url)):
        raise ConfigurationError(
            f"VAULT_PORTAL_URL={url!r} is not an http(s) address of at most {_LONGEST_PORTAL} plain characters"
        )
    return url or None


def read_pace(environment: Mapping[str, str]) -> Pace:
    """The waiting times and bounds from `environment`. Raises ConfigurationError naming the variable that is wrong."""
    chosen: dict[str, float | int | FirstServed] = {}
    for setting in fields(Pace):
        name = f"VAULT_{setting.name.upper()}"
        if name in environment and setting.type is FirstServed:
            chosen[setting.name] = _first_served(name, environment[name])
        elif name in environment:
            number = _number(environment, name, 0.0)
            chosen[setting.name] = int(number) if setting.type is int else number
    return Pace(**chosen)  # type: ignore[arg-type]  # each value has its field's type by the line above


def _first_served(name: str, value: str) -> FirstServed:
    try:
        return FirstServed(value.strip().lower())
    except ValueError as error:
        raise ConfigurationError(f"{name}={value!r} is none of {', '.join(FirstServed)}") from error


def _required(environment: Mapping[str, str], name: str) -> str:
    value = environment.get(name, "").strip()
    if not value:
        raise ConfigurationError(
            f"{name} is not set. `./vault up` sets it for the processes it starts; elsewhere set it yourself"
        )
    return value


def _number(environment: Mapping[str, str], name: str, default: float) -> float:
    text = environment.get(name)
    if text is None:
        return default
    try:
        number = float(text)
    except ValueError as error:
        raise ConfigurationError(f"{name}={text!r} is not a number") from error
    if name != "VAULT_CLOCK_OFFSET_SECONDS" and number < 0:
        raise ConfigurationError(f"{name}={text!r} is negative")
    return number
