"""The fault switches: what goes wrong, for whom, and how often it did.

A switch says how many (`rate`, `nth`, `times`) or exactly which (`units`) and, if wanted, where (`scope`). Who is met is drawn
from the seed and from the unit's own name (a phone, a loan, a receipt), never from the order of arrival. A switch meets the
same case once, so that a day can end: with `rate` a case is one act on a unit (`detail`), else it is the unit itself.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from sandbox.asgi import BadBodyError
from sandbox.chance import draw, fraction

FAULTS: Mapping[str, str] = {
    "result_lost": "B2C: paid, and the result never comes",
    "result_late": "B2C: the result comes settings.late_ms later",
    "result_twice": "B2C: the result comes twice",
    "result_contradicted": "B2C: paid, and settings.late_ms after the result that says so another one says that it failed",
    "result_before_answer": "B2C: the result comes before the acknowledgement",
    "answer_lost_after_paying": "B2C: paid, and the connection breaks instead of an acknowledgement",
    "queue_timeout_then_result": "B2C: a queue time-out first, then the result of a payment that did succeed",
    "insufficient_float": "B2C: result 1, although there is money",
    "initiator_locked": "B2C: result 8006, the initiator's credential is locked; nothing done",
    "unknown_receiver": "B2C: result 2040 or SFC_IC0003",
    "duplicate_answer": "B2C: paid, and answered as a duplicate",
    "soap_answer": "B2C: paid, and a SOAP fault comes instead of an acknowledgement",
    "empty_answer": "B2C: HTTP 200 without a body instead of an answer, nothing done",
    "never_processed": "B2C: acknowledged and nothing done: M-Pesa knows nothing of it when it is asked",
    "amount_changed": "B2C: settings.amount_change_cents more than was instructed is paid, and told",
    "result_without_parameters": "B2C: paid, and the result that says so has no parameters",
    "result_in_texts": "B2C: paid, and the result has texts for numbers",
    "spike_arrest": "B2C: refused at the gateway, nothing done",
    "html_answer": "B2C and Mifos X writes: an HTML page instead of an answer, nothing done",
    "oauth_token_dies": "B2C: the token is refused before its time",
    "status_result_lost": "transaction status: no answer comes",
    "balance_result_lost": "account balance: no answer comes",
    "balance_result_late": "account balance: the answer, of the moment of asking, comes settings.late_ms later",
    "balance_failed": "account balance: result 8006",
    "tariff_changed": "B2C: M-Pesa takes settings.fee_change_cents more than its form says; a unit is a band, by its upper end",
    "reversal_result_lost": "reversal: given back, and the result never comes; a unit is the payment's receipt",
    "reversal_result_late": "reversal: the result comes settings.late_ms later",
    "reversal_result_twice": "reversal: the result comes twice",
    "reversal_timeout_then_result": "reversal: a queue time-out first, then the result of one that did succeed",
    "reversal_answer_lost": "reversal: given back, and the connection breaks instead of an acknowledgement",
    "reversal_refused": "reversal: result 1, although there is money",
    "reversal_spike_arrest": "reversal: refused at the gateway, nothing done",
    "c2b_confirmation_twice": "C2B: the confirmation comes twice",
    "c2b_confirmation_lost": "C2B: paid, and the confirmation never comes",
    "pull_row_doubled": "pull: the payment stands in two rows",
    "pull_utc_times": "pull: the times of the answer are UTC, not East Africa Time with a Z",
    "pull_offset_ignored": "pull: the answer begins with the first row whatever offset was asked for",
    "pull_odd_keys": "pull: the answer spells its keys as other live ones do",
    "pull_none_is_500": "pull: HTTP 500 where there is no payment",
    "pull_fails": "pull: HTTP 503; a unit is a short code and offset, pull:600100:0",
    "c2b_confirmation_late": "C2B: the confirmation comes settings.late_ms later",
    "stk_insufficient": "STK: result 1, the customer has too little",
    "stk_cancelled": "STK: result 1032",
    "stk_no_answer": "STK: result 1037",
    "stk_wrong_pin": "STK: result 2001",
    "stk_answer_lost": "STK: prompted, and the connection breaks instead of an acknowledgement",
    "stk_callback_lost": "STK: the callback never comes",
    "stk_callback_late": "STK: the callback comes settings.late_ms later",
    "stk_callback_twice": "STK: the callback comes twice",
    "stk_callback_without_receipt": "STK: paid, and the callback says so without a receipt",
    "stk_query_wrong": "STK: a question about a prompt that is paid says that it failed",
    "mifos_409_lock": "Mifos X: the close-of-business job holds the loan; nothing done, the same key works next time",
    "mifos_409_conflict": "Mifos X: a lost race, stored under the key for ever; nothing done, a new key works",
    "mifos_403_client_not_active": "Mifos X: the client is not active; nothing done, stored under the key for ever, later it is",
    "mifos_waits_for_checker": "Mifos X: 200 without changes, nothing done before a checker approves; 425 till then",
    "mifos_425": "Mifos X: posted, and answered 425 as if it were still running; the same key gives the stored answer later",
    "mifos_425_for_ever": "Mifos X: crashed before posting; the key answers 425 for ever, a new key works",
    "mifos_500_after_posting": "Mifos X: posted, and answered 500",
    "mifos_timeout_after_posting": "Mifos X: posted, and the connection breaks after settings.hang_ms",
    "hook_missing": "Mifos X: the web hook of an approval is not sent",
    "sms_refused": "SMS: 1004 insufficient balance, nothing sent",
    "sms_timed_out_after_sending": "SMS: sent, and the connection breaks after settings.hang_ms",
}

_FIELDS = {"rate", "nth", "times", "units", "scope", "per_unit"}


@dataclass(slots=True)
class Switch:
    """One setting of one fault. `scope` names short codes, hosts or SMS users; none means all."""

    rate: float | None = None
    nth: tuple[int, ...] = ()
    times: int | None = None
    units: tuple[str, ...] = ()
    scope: tuple[str, ...] = ()
    per_unit: int = 1
    met: dict[str, int] = field(default_factory=dict)  # case -> times it was met
    seen: list[str] = field(default_factory=list)  # units in order of arrival, where no world names them beforehand

    def as_json(self) -> dict[str, Any]:
        """The switch as it was set, without what it did."""
        shown = {name: getattr(self, name) for name in ("rate", "nth", "times", "units", "scope", "per_unit")}
        return {name: value for name, value in shown.items() if value not in (None, ())}


class Faults:
    """All switches of one sandbox."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.switches: dict[str, list[Switch]] = {}
        self.fired: Counter[str] = Counter()
        self.universe: dict[str, set[str]] = defaultdict(set)  # fault -> "scope/unit" the world holds

    def set(self, wishes: Mapping[str, Any]) -> None:
        """Replaces the switches named in `wishes` (name -> switch, list of switches, or null for off). Raises BadBodyError."""
        made = {name: _switches(name, wish) for name, wish in wishes.items()}
        for name, switches in made.items():
            self.switches[name] = switches

    def announce(self, fault: str, scope: str, unit: str) -> None:
        """Tells that `unit` may come, so that `times` and `nth` can choose before anything arrives; no scope, no news."""
        if scope:
            self.universe[fault].add(f"{scope}/{unit}")

    def fires(self, fault: str, scope: str, unit: str, detail: str = "") -> bool:
        """Whether `fault` meets this act on this unit; counts it if so."""
        for position, switch in enumerate(self.switches.get(fault, ())):
            if switch.scope and scope not in switch.scope:
                continue
            case = f"{scope}/{unit}/{detail}" if switch.rate is not None else f"{scope}/{unit}"
            if switch.met.get(case, 0) >= switch.per_unit:
                continue
            if self._chosen(fault, position, switch, f"{scope}/{unit}", detail):
                switch.met[case] = switch.met.get(case, 0) + 1
                self.fired[fault] += 1
                return True
        return False

    def _chosen(self, fault: str, position: int, switch: Switch, unit: str, detail: str) -> bool:
        if switch.rate is not None:
            return fraction(self.seed, fault, position, unit, detail) < switch.rate
        if switch.units:
            return unit in switch.units or unit.split("/", 1)[1] in switch.units
        known = self._known(fault, switch)
        if not known:
            return self._chosen_by_arrival(switch, unit)
        if switch.times is not None:
            known.sort(key=lambda name: draw(self.seed, fault, position, name))
            return unit in known[: switch.times]
        return any(place <= len(known) and known[place - 1] == unit for place in switch.nth)

    def _known(self, fault: str, switch: Switch) -> list[str]:
        units = self.universe.get(fault, ())
        return sorted(unit for unit in units if not switch.scope or unit.split("/", 1)[0] in switch.scope)

    @staticmethod
    def _chosen_by_arrival(switch: Switch, unit: str) -> bool:
        if unit not in switch.seen:
            switch.seen.append(unit)
        place = switch.seen.index(unit) + 1
        return place <= switch.times if switch.times is not None else place in switch.nth


def _switches(name: str, wish: Any) -> list[Switch]:
    if name not in FAULTS:
        raise BadBodyError(f"no fault {name}; there are: {', '.join(FAULTS)}")
    if wish is None:
        return []
    wishes = wish if isinstance(wish, list) else [wish]
    return [_switch(name, each) for each in wishes]


def _switch(name: str, wish: Any) -> Switch:
    if not isinstance(wish, dict) or set(wish) - _FIELDS:
        raise BadBodyError(f"fault {name}: a switch is an object with some of {', '.join(sorted(_FIELDS))}, got {wish!r}")
    if sum(key in wish for key in ("rate", "nth", "times", "units")) != 1:
        raise BadBodyError(f"fault {name}: exactly one of rate, nth, times, units is needed, got {wish!r}")
    rate = wish.get("rate")
    return Switch(
        rate=None if rate is None else float(rate),
        nth=tuple(wish.get("nth", ())),
        times=wish.get("times"),
        units=_texts(wish.get("units", ())),
        scope=_texts(wish.get("scope", ())),
        per_unit=int(wish.get("per_unit", 1)),
    )


def _texts(value: str | Collection[Any]) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(str(each) for each in value)
