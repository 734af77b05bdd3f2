"""What can be set while the sandbox runs (POST /control/settings)."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any

from sandbox.asgi import BadBodyError


@dataclass(slots=True)
class Settings:
    """All times in milliseconds."""

    b2c_latency_ms: int = 0  # how long the M-Pesa gateway thinks before it answers a payment
    mifos_latency_ms: int = 0  # how long a Mifos X write takes
    sms_latency_ms: int = 0
    result_delay_ms: int = 20  # from the acknowledgement to the result
    late_ms: int = 3000  # what "late" means for result_late, c2b_confirmation_late and queue_timeout_then_result
    hang_ms: int = 1000  # how long a lost answer hangs before the connection breaks
    in_process_ms: int = 3000  # how long Mifos X waits for a running command of the same key before it says 425
    validation_ms: int = 8000  # how long M-Pesa waits for the answer to a C2B validation before its ResponseType decides
    delivery_tries: int = 12  # sources disagree on whether M-Pesa repeats a callback that met a 5xx or a closed port; 1 = never
    delivery_retry_ms: int = 1000
    amount_change_cents: int = 100_00  # how much more than instructed M-Pesa pays where amount_changed fires
    fee_change_cents: int = 200  # how much more than its form M-Pesa takes where tariff_changed fires (below zero: less)
    pull_page_rows: int = 100  # rows of a page of Pull Transactions; nobody documents it
    new_token_kills_old: bool = False  # the portal says so; nobody measured it


def change_settings(settings: Settings, changes: Mapping[str, Any]) -> datetime | None:
    """Sets what `changes` names; returns the `now` in it, if any. Raises BadBodyError for an unknown name or a wrong kind."""
    known = {field.name: field.type for field in fields(settings)}
    moment = _aware(changes["now"]) if "now" in changes else None
    wanted = {name: value for name, value in changes.items() if name != "now"}
    for name, value in wanted.items():
        if name not in known:
            raise BadBodyError(f"no setting {name}; there are: now, {', '.join(known)}")
        if type(value) is not known[name]:
            raise BadBodyError(f"setting {name} must be {known[name]}, got {value!r}")
    for name, value in wanted.items():
        setattr(settings, name, value)
    return moment


def _aware(value: Any) -> datetime:
    try:
        moment = datetime.fromisoformat(value)
    except (TypeError, ValueError) as error:
        raise BadBodyError(f"now must be an ISO moment with a zone, got {value!r}") from error
    if moment.tzinfo is None:
        raise BadBodyError(f"now must have a zone, got {value!r}")
    return moment
