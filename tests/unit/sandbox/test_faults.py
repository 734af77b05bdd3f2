"""The switches: who is met is a matter of the seed, not of the order of arrival."""

import random

import pytest

from sandbox.asgi import BadBodyError
from sandbox.faults import FAULTS, Faults

UNITS = [f"2547000{number:05d}" for number in range(500)]


def met(faults: Faults, fault: str, units: list[str], *, detail: str = "") -> set[str]:
    return {unit for unit in units if faults.fires(fault, "600100", unit, detail)}


def shuffled(seed: int) -> list[str]:
    units = list(UNITS)
    random.Random(seed).shuffle(units)
    return units


@pytest.mark.parametrize("switch", [{"rate": 0.05}, {"times": 7}, {"nth": [3, 17, 499]}, {"units": UNITS[10:12]}])
def test_the_same_seed_meets_the_same_units_in_any_order(switch):
    outcomes = []
    for order in (1, 2, 3):
        faults = Faults(seed=5)
        for unit in UNITS:
            faults.announce("result_lost", "600100", unit)
        faults.set({"result_lost": switch})
        outcomes.append(met(faults, "result_lost", shuffled(order)))
    assert outcomes[0] == outcomes[1] == outcomes[2] != set()


def test_another_seed_meets_others():
    one, other = Faults(seed=1), Faults(seed=2)
    for faults in (one, other):
        faults.set({"result_lost": {"rate": 0.1}})
    assert met(one, "result_lost", UNITS) != met(other, "result_lost", UNITS)


def test_a_rate_is_about_kept():
    faults = Faults(seed=1)
    faults.set({"result_lost": {"rate": 0.2}})
    assert 70 <= len(met(faults, "result_lost", UNITS)) <= 130
    assert faults.fired["result_lost"] == len(met(Faults(1), "result_lost", UNITS)) or faults.fired["result_lost"] >= 70


def test_times_meets_exactly_so_many_of_those_announced():
    faults = Faults(seed=1)
    for unit in UNITS:
        faults.announce("result_lost", "600100", unit)
    faults.set({"result_lost": {"times": 7}})
    assert len(met(faults, "result_lost", UNITS)) == 7


def test_times_meets_the_first_to_come_where_nobody_was_announced():
    faults = Faults(seed=1)
    faults.set({"result_lost": {"times": 2}})
    assert met(faults, "result_lost", UNITS[:5]) == set(UNITS[:2])


def test_a_case_is_met_once():
    faults = Faults(seed=1)
    faults.set({"result_lost": {"units": [UNITS[0]]}})
    assert [faults.fires("result_lost", "600100", UNITS[0]) for _ in range(3)] == [True, False, False]


def test_per_unit_allows_more():
    faults = Faults(seed=1)
    faults.set({"result_lost": {"units": [UNITS[0]], "per_unit": 2}})
    assert [faults.fires("result_lost", "600100", UNITS[0]) for _ in range(3)] == [True, True, False]


def test_with_a_rate_a_case_is_one_act_on_a_unit():
    faults = Faults(seed=1)
    faults.set({"result_lost": {"rate": 1.0}})
    assert [faults.fires("result_lost", "600100", UNITS[0], detail) for detail in ("a", "a", "b")] == [True, False, True]


def test_a_scope_keeps_others_out():
    faults = Faults(seed=1)
    faults.set({"result_lost": {"rate": 1.0, "scope": ["600200"]}})
    assert not faults.fires("result_lost", "600100", UNITS[0])
    assert faults.fires("result_lost", "600200", UNITS[0])


def test_several_switches_of_one_fault_stand_side_by_side():
    faults = Faults(seed=1)
    faults.set({"result_lost": [{"units": [UNITS[0]]}, {"units": [UNITS[1]]}]})
    assert met(faults, "result_lost", UNITS[:3]) == set(UNITS[:2])


def test_null_turns_a_fault_off():
    faults = Faults(seed=1)
    faults.set({"result_lost": {"rate": 1.0}})
    faults.set({"result_lost": None})
    assert met(faults, "result_lost", UNITS) == set()


def test_a_wrong_switch_changes_nothing():
    faults = Faults(seed=1)
    with pytest.raises(BadBodyError, match="no fault nonsense"):
        faults.set({"result_lost": {"rate": 1.0}, "nonsense": {"rate": 1.0}})
    assert met(faults, "result_lost", UNITS) == set()


def test_every_fault_of_the_issue_is_there():
    assert {
        "result_lost",
        "result_late",
        "result_twice",
        "result_before_answer",
        "answer_lost_after_paying",
        "insufficient_float",
        "unknown_receiver",
        "mifos_409_lock",
        "mifos_425",
        "mifos_500_after_posting",
        "mifos_timeout_after_posting",
        "hook_missing",
        "sms_refused",
        "sms_timed_out_after_sending",
    } <= FAULTS.keys()
