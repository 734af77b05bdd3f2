"""The whole story of one payment, in order: who told of it, how its account was looked for, who decided what, what became of it.

Pure: rows in, events out. Nothing here decides anything; a fact that no row tells is not told.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from vault_core.collections.story_rows import StoryRows
from vault_core.money import Money
from vault_core.story import CORE, MPESA, US, Event, tell_cases, tell_messages, tell_transactions

_FEEDS = {"c2b": "a confirmation", "stk": "the answer to a prompt", "pull": "a pull", "statement": "an imported statement"}
_DELIVERIES = {
    "c2b_confirmation": "confirmation",
    "c2b_validation": "question whether it may be taken",
    "stk_result": "result of a prompt",
    "query_result": "word about a reversal",
    "query_timeout": "queue time-out of a reversal",
}
# By the rows of the decisions themselves.
_TOLD_ELSEWHERE = ("_proposed", "_approved", "_rejected", "_lapsed")


def tell(rows: StoryRows) -> list[Event]:
    """The events of the payment, oldest first; those of one moment in the order in which one causes the next."""
    sources = (
        _deliveries(rows),
        _booked(rows),
        _told_again(rows),
        _decisions(rows),
        _acts(rows),
        _requests(rows),
        _questions(rows),
        _calls(rows),
        _postings(rows),
        tell_transactions(rows.transactions),
        tell_messages(rows.messages),
        tell_cases(rows.cases),
    )
    return sorted((event for source in sources for event in source), key=lambda event: event.at)


def _booked(rows: StoryRows) -> Iterator[Event]:
    found = rows.found
    refs = {"receipt": found["receipt"], "short_code": found["short_code"]}
    yield Event(found["happened_at"], MPESA, f"took {Money(found['amount_cents'])} from the customer", refs)
    late = ": late, no confirmation had come" if found["found_late"] else ""
    words = f"booked it, told by {_FEEDS[found['source']]}{late}"
    yield Event(found["booked_at"], US, words, {"told_by": str(found["event_id"])})


def _told_again(rows: StoryRows) -> Iterator[Event]:
    """By feeds that are no deliveries: those tell by themselves."""
    for told in rows.tellings:
        if told["source"] in ("pull", "statement"):
            yield Event(told["told_at"], MPESA, f"told of it by {_FEEDS[told['source']]} too", {"told_by": str(told["event_id"])})


def _deliveries(rows: StoryRows) -> Iterator[Event]:
    for delivery in rows.deliveries:
        became = delivery["effect"] or delivery["cause"] or f"{delivery['state']}, not applied yet"
        name = _DELIVERIES.get(delivery["purpose"], delivery["purpose"])
        yield Event(delivery["received_at"], MPESA, f"{name} came in: {became}", {"delivery": str(delivery["id"])})


def _calls(rows: StoryRows) -> Iterator[Event]:
    """The tries that are not over, or were given up: those that succeeded tell by what they did."""
    for call in rows.calls:
        what = "undo its posting" if call["kind"] == "collection.undo" else "find its account and post it"
        if call["state"] != "done" and call["last_cause"]:
            then = "given up" if call["state"] == "given_up" else "it is tried again"
            yield Event(call["due_at"], US, f"{call['tries']} tries to {what}, {then}: {call['last_cause']}")


def _postings(rows: StoryRows) -> Iterator[Event]:
    for posting in rows.postings:
        account = f"{'loan' if posting['kind'] == 'repayment' else 'savings'} id {posting['account_id']}"
        refs = {"external_id": posting["external_id"]}
        amount = Money(posting["amount_cents"])
        yield Event(posting["created_at"], US, f"{posting['kind']} of {amount} to {account} intended", refs)
        said = posting["last_answer"] or "no answer is recorded"
        if posting["state"] in ("posted", "undone") and posting["posted_at"] is not None:
            ended = f"; it was undone since: {said}" if posting["state"] == "undone" else f": {said}"
            refs = refs | {"mifos_transaction": str(posting["mifos_transaction_id"])}
            yield Event(posting["posted_at"], CORE, f"has the {posting['kind']}{ended}", refs)
        elif posting["state"] == "refused":
            yield Event(
                posting["called_at"] or posting["created_at"], CORE, f"{posting['kind']} not posted, refused: {said}", refs
            )
        elif posting["called_at"] is not None:
            yield Event(posting["called_at"], CORE, f"call {posting['tries']}, not known to be posted: {said}", refs)


def _decisions(rows: StoryRows) -> Iterator[Event]:
    for one in rows.decisions:
        refs = {"decision": str(one["id"])}
        to = f" to {one['account_kind']} {one['account_no']}" if one["account_kind"] else ""
        out = {"move": " out of its account", "reverse": " back to the payer by M-Pesa"}.get(one["kind"], "")
        waits = "; a second person must agree" if one["second_person"] else ""
        yield Event(one["proposed_at"], one["proposed_by"], f"decided: {one['kind']} it{out}{to}{waits}. {one['reason']}", refs)
        if one["second_person"] and one["decided_at"] is not None:
            note = f": {one['decision_note']}" if one["decision_note"] else ""
            word = "let it lapse" if one["state"] == "lapsed" else "rejected it" if one["state"] == "rejected" else "agreed"
            yield Event(one["decided_at"], one["decided_by"] or "nobody", f"{word}{note}", refs)
        if one["ended_at"] is not None:
            yield Event(one["ended_at"], US, f"{one['kind']} {one['state']}: {one['effect']}", refs)


def _acts(rows: StoryRows) -> Iterator[Event]:
    for act in rows.acts:
        if not act["act"].endswith(_TOLD_ELSEWHERE):
            reason = f" ({act['reason']})" if act["reason"] else ""
            yield Event(act["at"], act["actor"], f"{act['act']}{reason}")


def _requests(rows: StoryRows) -> Iterator[Event]:
    for one in rows.requests:
        refs = _ids(one) | {"request": str(one["id"])}
        yield Event(one["written_at"], US, f"reversal of {Money(one['amount_cents'])} written", refs)
        if one["sent_at"] is not None:
            again = f", {one['sends']} times" if one["sends"] > 1 else ""
            said = one["answer"] or "no answer of the gateway is recorded"
            yield Event(one["sent_at"], US, f"asked M-Pesa for the reversal{again}: {said}", refs)
        if one["result_at"] is not None:
            became = f"receipt {one['reversal_receipt']}" if one["state"] == "done" else "not given back"
            yield Event(one["result_at"], US, f"reversal booked as {one['state']}, {became}: {one['result_text']}", refs)


def _questions(rows: StoryRows) -> Iterator[Event]:
    for question in rows.questions:
        refs = {"question": str(question["id"])}
        said = question["outcome"] or "no answer of the gateway is recorded"
        yield Event(question["asked_at"], US, f"asked M-Pesa what became of the reversal: {said}", refs)
        if question["answered_at"] is not None:
            status = question["transaction_status"]
            told = f"status {status}" if status else f"code {question['result_code']}"
            yield Event(question["answered_at"], MPESA, f"told about the reversal: {told}", refs)


def _ids(one: Mapping[str, Any]) -> dict[str, str]:
    names = ("originator_conversation_id", "conversation_id")
    return {name: one[name] for name in names if one[name]}
