"""What the figures of benchmarks rest on."""

import asyncio
import threading
from collections import Counter
from datetime import UTC, datetime

import pytest

from benchmarks.parts.customer_payments import CustomerPayments, receipt
from benchmarks.parts.latencies import most_waiting, percentile
from benchmarks.parts.payout_results import result_bodies
from benchmarks.parts.post_load import post_each
from benchmarks.parts.process_usage import class_of
from vault_core.clients.daraja_messages import parse_confirmation, parse_result
from vault_core.errors import InvalidInput
from vault_core.money import Money

AT = datetime(2026, 11, 24, 9, 30, tzinfo=UTC)


def test_what_waits_at_once_is_counted_where_spans_overlap_and_not_where_one_ends_as_the_next_begins():
    assert most_waiting([(0, 1), (1, 2), (2, 3)]) == 1
    assert most_waiting([(0, 10), (1, 2), (1.5, 3), (4, 5)]) == 3
    assert most_waiting([]) == 0


def test_a_percentile_is_a_value_that_was_seen():
    assert percentile([5, 1, 3], 0.5) == 3
    assert percentile(range(100), 0.99) == 99
    assert percentile([], 0.99) == 0


def test_no_two_payments_have_a_receipt_in_common():
    assert len({receipt(number) for number in range(5_000)}) == 5_000


def test_made_payments_are_confirmations_except_for_the_poison():
    source = CustomerPayments([("600101", "http://x/i/abc"), ("600103", "http://x/i/def")], ["17", "18"], AT)
    heads, bodies = zip(*(request.split(b"\r\n\r\n") for request in source.requests(6, poison=3)), strict=True)
    assert [head.split()[1] for head in heads] == [b"/i/abc", b"/i/def"] * 3
    read = [parse_confirmation(body) for place, body in enumerate(bodies) if place % 3 != 2]
    assert {one.short_code for one in read} == {"600101", "600103"}
    assert len({one.receipt for one in read}) == 4
    for place in (2, 5):
        with pytest.raises(InvalidInput):
            parse_confirmation(bodies[place])


def test_a_made_result_says_that_the_payout_of_the_truth_was_paid():
    row = {
        "originator_conversation_id": "abc",
        "conversation_id": "AG_1",
        "receipt": "UKO0000001",
        "phone": "254712000001",
        "amount_cents": 1_500_000,
        "at": "2026-11-24T09:30:00+00:00",
    }
    (originator, (short_code, body)), *others = result_bodies(
        {"mpesa": {"short_codes": {"600100": {"b2c": [row]}}}}, ["600100"]
    ).items()
    result = parse_result(body)
    assert (originator, short_code, others) == ("abc", "600100", [])
    assert (result.code, result.receipt, result.amount) == ("0", "UKO0000001", Money.shillings(15_000))


def test_processes_are_told_apart_by_what_they_run():
    assert class_of(["python", "-m", "granian", "callback_receiver.app:application"]) == "receiver"
    assert class_of(["python", "-m", "faust", "-A", "benchmarks.parts.booking_worker", "worker"]) == "stream worker"
    assert class_of(["/x/bin/postgres", "-D", "data"]) == "PostgreSQL"
    assert class_of(["sleep", "1"]) is None


class Answering:
    """A server that answers every request with 200 but those that say `no`, and counts what it got."""

    def __enter__(self):
        self.seen: Counter[bytes] = Counter()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()))
        self._thread.start()
        assert self._ready.wait(10)
        return self

    def __exit__(self, *_error: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        async with await asyncio.start_server(self._answer, "127.0.0.1", 0) as server:
            self.port = server.sockets[0].getsockname()[1]
            self._ready.set()
            await self._stop.wait()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while body := await reader.read(100):
            self.seen[body] += 1
            status = b"500 No" if body == b"no" else b"200 OK"
            writer.write(b"HTTP/1.1 " + status + b"\r\ncontent-length: 2\r\n\r\n{}")
        writer.close()


def test_the_load_posts_each_request_once_and_counts_who_was_refused():
    requests = [b"%d" % number for number in range(50)] + [b"no"]
    with Answering() as server:
        load = post_each(server.port, requests, connections=4)
    assert server.seen == Counter(requests)
    assert (load.acknowledged, load.refused, len(load.latencies)) == (50, 1, 50)


def test_the_load_keeps_to_its_rate():
    with Answering() as server:
        load = post_each(server.port, [b"%d" % number for number in range(41)], connections=8, rate=200)
    assert load.acknowledged == 41
    assert load.seconds > 0.2 - 1e-6  # the clock's own grain
