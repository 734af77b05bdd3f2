"""The whole story of one payout, in order: who did what, what was sent and answered, what the books, texts and cases say.

Pure: rows in, events out. Nothing here decides anything; a fact that no row tells is not told.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from vault_core.disbursements.result_classes import is_listed, meaning_of
from vault_core.disbursements.story_rows import StoryRows
from vault_core.money import Money
from vault_core.story import CORE, MPESA, US, Event, tell_cases, tell_messages, tell_transactions

# By the rows of the resolutions themselves, with their evidence.
_TOLD_ELSEWHERE = frozenset(
    {
        "disbursement.resolution_proposed",
        "disbursement.resolution_rejected",
        "disbursement.resolution_overtaken",
        "disbursement.resolved",
    }
)


def tell(rows: StoryRows) -> list[Event]:
    """The events of the payout, oldest first; those of one moment in the order in which one causes the next."""
    sources = (
        _found(rows),
        _acts(rows),
        _holds(rows),
        _instructions(rows),
        _questions(rows),
        _deliveries(rows),
        _resolutions(rows),
        _results(rows),
        tell_transactions(rows.transactions),
        _postings(rows),
        tell_messages(rows.messages),
        tell_cases(rows.cases),
    )
    return sorted((event for source in sources for event in source), key=lambda event: event.at)


def _found(rows: StoryRows) -> Iterator[Event]:
    found = rows.found
    principal, payout = Money(found["principal_cents"]), Money(found["payout_cents"])
    paid = f", {payout} to pay" if payout != principal else ""
    by = "a poll" if found["found_by"] == "poll" else "a web hook"
    yield Event(
        found["detected_at"],
        US,
        f"found loan {found['loan_account_no']} approved by {by}: {principal}{paid}",
        {"loan_id": str(found["loan_id"]), "tranche": str(found["tranche"])},
    )


def _acts(rows: StoryRows) -> Iterator[Event]:
    for act in rows.acts:
        if act["act"] in _TOLD_ELSEWHERE:
            continue
        moved = ""
        before, after = act["before"] or {}, act["after"] or {}
        if before.get("state") and after.get("state"):
            moved = f": {_standing(before)} -> {_standing(after)}"
        reason = f" ({act['reason']})" if act["reason"] else ""
        yield Event(act["at"], act["actor"], f"{act['act']}{moved}{reason}")


def _standing(values: Mapping[str, Any]) -> str:
    return f"{values['state']}/{values['held_for']}" if values.get("held_for") else str(values["state"])


def _holds(rows: StoryRows) -> Iterator[Event]:
    for hold in rows.holds:
        refs = {"hold": str(hold["id"])}
        yield Event(hold["placed_at"], "ledger", f"{Money(hold['amount_cents'])} of the wallet held for charges", refs)
        if hold["state"] == "captured":
            yield Event(hold["resolved_at"], "ledger", f"{Money(hold['captured_cents'])} of the hold taken", refs)
        elif hold["resolved_at"] is not None:
            yield Event(hold["resolved_at"], "ledger", "the hold given back", refs)


def _instructions(rows: StoryRows) -> Iterator[Event]:
    for one in rows.instructions:
        refs = {"originator_conversation_id": one["originator_conversation_id"]}
        if one["conversation_id"]:
            refs["conversation_id"] = one["conversation_id"]
        number, amount = one["number"], Money(one["amount_cents"])
        again = f", claimed {one['sends']} times under the same id" if one["sends"] > 1 else ""
        yield Event(one["written_at"], US, f"instruction {number} written: pay {amount}{again}", refs)
        if one["answered_at"] is not None and one["answer"]:
            yield Event(one["answered_at"], MPESA, f"answered instruction {number}: {one['answer']}", refs)


def _results(rows: StoryRows) -> Iterator[Event]:
    resolved = {row["id"] for row in rows.resolutions}
    for one in rows.instructions:
        if one["result_at"] is None:
            continue
        number, event = one["number"], one["result_event_id"]
        refs = {} if event is None else {"resolution" if event in resolved else "delivery": str(event)}
        if one["state"] == "paid":
            yield Event(one["result_at"], US, f"instruction {number} booked as paid, receipt {one['receipt']}", refs)
        elif one["state"] == "failed":
            code = one["result_code"]
            meaning = f", that is: {meaning_of(code).words}" if code and is_listed(code) else ""
            yield Event(
                one["result_at"], US, f"instruction {number} booked as failed ({code}: {one['result_text']}){meaning}", refs
            )


def _questions(rows: StoryRows) -> Iterator[Event]:
    for question in rows.questions:
        refs = {"question": str(question["id"])}
        outcome = question["outcome"] or "no answer of the gateway is recorded"
        yield Event(question["asked_at"], US, f"asked M-Pesa about instruction {question['number']}: {outcome}", refs)
        if question["answered_at"] is not None:
            status = question["transaction_status"]
            said = f"status {status}" if status else f"code {question['result_code']}"
            yield Event(question["answered_at"], MPESA, f"told about instruction {question['number']}: {said}", refs)


def _deliveries(rows: StoryRows) -> Iterator[Event]:
    names = {
        "b2c_result": "result",
        "b2c_timeout": "queue time-out",
        "query_result": "answer to a status question",
        "query_timeout": "time-out of a status question",
    }
    for delivery in rows.deliveries:
        became = delivery["effect"] or delivery["cause"] or f"{delivery['state']}, not applied yet"
        name = names.get(delivery["purpose"], delivery["purpose"])
        yield Event(delivery["received_at"], MPESA, f"{name} came in: {became}", {"delivery": str(delivery["id"])})


def _resolutions(rows: StoryRows) -> Iterator[Event]:
    for one in rows.resolutions:
        refs = {"resolution": str(one["id"])}
        verdict = f"paid, receipt {one['receipt']}" if one["verdict"] == "paid" else "not paid"
        waits = "; a second person must approve" if one["second_person"] else ""
        if one["overturns"]:
            waits = f", against what is booked ({one['overturns']}){waits}"
        yield Event(one["proposed_at"], one["proposed_by"], f"states: {verdict}{waits}. Evidence: {one['evidence']}", refs)
        if one["decided_at"] is not None and (one["second_person"] or one["state"] != "applied"):
            note = one["effect"] or one["decision_note"] or ""
            words = {"applied": "approved it", "rejected": "rejected it", "overtaken": "came too late"}[one["state"]]
            yield Event(one["decided_at"], one["decided_by"], f"{words}: {note}", refs)


def _postings(rows: StoryRows) -> Iterator[Event]:
    for posting in rows.postings:
        refs = {"external_id": posting["external_id"], "receipt": posting["receipt"]}
        amount = Money(posting["amount_cents"])
        yield Event(posting["created_at"], US, f"posting of {amount} to loan {posting['account_id']} intended", refs)
        if posting["posted_at"] is not None:
            refs = refs | {"mifos_transaction": str(posting["mifos_transaction_id"])}
            counts = "" if posting["state"] != "undone" else "; it counts no more, because its payment was taken back"
            yield Event(posting["posted_at"], CORE, f"has the disbursement: {posting['last_answer']}{counts}", refs)
        elif posting["called_at"] is not None:
            said = posting["last_answer"] or posting["last_cause"] or "no answer is recorded"
            then = f"; next try {posting['call_state']}" if posting["call_state"] != "pending" else ""
            yield Event(posting["called_at"], CORE, f"call {posting['tries']}, not posted: {said}{then}", refs)
