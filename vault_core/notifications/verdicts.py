"""What follows from a gateway's answer to one message (reference/bank_sms_ledger.md section 2.5). Pure."""

from dataclasses import dataclass

from vault_core.clients.sms_gateway import SmsAck
from vault_core.outbox.calls import Again, CallResult, Done
from vault_core.outcome import Accepted, Outcome, Refusal, Refused, Unknown


@dataclass(frozen=True, slots=True)
class Verdict:
    """The states that a try leaves its attempt and its message in, whether it is charged, and whether it is tried again."""

    attempt_state: str  # 'accepted' | 'refused' | 'unknown'
    message_state: str  # 'accepted' | 'queued' | 'refused' | 'unknown'
    call: CallResult
    answer: str
    gateway_reference: str | None = None
    case: str | None = None  # the kind of case to open about the message
    gateway_case: bool = False  # the gateway refuses this partner's every message


def verdict_on(outcome: Outcome[SmsAck], *, last_try: bool) -> Verdict:
    """What `outcome` makes of the message.

    Acceptance ends the matter, and is what the wallet is charged for. A definite non-acceptance is tried again until the last
    try unless the message itself is at fault. Unknown is never tried again: the client must not get two texts.
    """
    match outcome:
        case Accepted(ack):
            return Verdict("accepted", "accepted", Done(), "accepted", gateway_reference=ack.gateway_reference)
        case Unknown(cause):
            return Verdict("unknown", "unknown", Done(), cause, case="sms_unknown")
        case Refused(code, reason, Refusal.TERMINAL):
            return Verdict("refused", "refused", Done(), f"{code}: {reason}", case="sms_refused")
        case Refused(code, reason, refusal):
            answer = f"{code}: {reason}"
            return Verdict(
                "refused",
                "refused" if last_try else "queued",
                Again(answer),
                answer,
                case="sms_refused" if last_try else None,
                gateway_case=refusal is Refusal.HALT,
            )


def interrupted() -> Verdict:
    """On a message whose earlier try has no answer on record: the process ended between the call and its answer."""
    return Verdict(
        "unknown",
        "unknown",
        Done(),
        "the process ended before the gateway's answer was recorded: it may or may not have the message",
        case="sms_unknown",
    )
