"""How each kind of case ends, and that no kind is opened which the table does not know."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import vault_core
from vault_core.cases.case_kinds import ENDINGS, End, Facts, ending_of, is_closed_by_people, needs_second_person, told
from vault_core.money import Money

LIMIT = Money.shillings(50_000)
PRODUCT = Path(vault_core.__file__).parents[1]
# Named by data, not by the code that opens them: vault_core/notifications/verdicts.py.
BY_DATA = {"sms_unknown", "sms_refused"}


def opened_kinds() -> Iterator[tuple[str, str]]:
    """Every kind that code opens a case of, with where: words given to `NewCase`, and constants that name one."""
    sources = [path for house in ("vault_core", "vault_pipelines") for path in sorted((PRODUCT / house).rglob("*.py"))]
    trees = {path.relative_to(PRODUCT): ast.parse(path.read_text(encoding="utf-8")) for path in sources}
    given = {path: list(_given(tree)) for path, tree in trees.items()}
    names = {kind.id for kinds in given.values() for kind in kinds if isinstance(kind, ast.Name)}
    for path, tree in trees.items():
        yield from ((str(kind.value), str(path)) for kind in given[path] if isinstance(kind, ast.Constant))
        for node in tree.body:
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
                name = next((target.id for target in node.targets if isinstance(target, ast.Name)), "")
                if name.endswith("_CASE") or name in names:
                    yield node.value.value, str(path)


def _given(tree: ast.Module) -> Iterator[ast.expr]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "NewCase":
            yield from node.args[:1] or [word.value for word in node.keywords if word.arg == "kind"]


def test_every_kind_that_code_opens_has_an_ending() -> None:
    opened = list(opened_kinds())
    assert len(opened) > 20
    assert [(kind, where) for kind, where in opened if kind not in ENDINGS] == []
    assert set(ENDINGS) == {kind for kind, _ in opened} | BY_DATA


@pytest.mark.parametrize(
    "kind", ["payout_unresolved", "payout_failed", "disbursement_unposted", "unmatched_payment", "float_short"]
)
def test_open_money_is_not_closed_by_a_word(kind: str) -> None:
    assert not is_closed_by_people(ending_of(Facts(kind, "disbursement 1", Money(1))))


def test_a_contradiction_is_for_resolve_while_the_failed_instruction_keeps_the_receipt_and_for_people_after_that() -> None:
    facts = Facts("contradicting_result", "attempt 7 receipt R1", Money(1), unsettled="loan-1")
    assert "resolve loan-1" in told(ending_of(facts), facts, case="c", partner="alpha")
    assert is_closed_by_people(ending_of(Facts("contradicting_result", "attempt 7 receipt R1", Money(1))))


def test_a_case_that_was_left_behind_by_what_is_proved_to_be_over_may_be_closed() -> None:
    for kind in ("payout_failed", "partner_halted", "float_short"):
        assert is_closed_by_people(ending_of(Facts(kind, "x", Money(1), settled=True)))
    assert ending_of(Facts("ledger_broken", "x", Money(1), settled=True)).end is End.BY_TWO


def test_a_call_that_posts_money_is_taken_up_again_and_a_text_that_was_given_up_is_closed() -> None:
    facts = Facts("call_given_up", "disbursement.post 1", None)
    assert told(ending_of(facts), facts, case="c", partner="alpha") == "`vault disbursements resume alpha`"
    assert is_closed_by_people(ending_of(Facts("call_given_up", "message.send 1", None)))


@pytest.mark.parametrize(
    ("kind", "amount", "second"),
    [
        ("float_gap", Money.shillings(50_000), False),
        ("float_gap", Money.shillings(50_001), True),
        ("sms_refused", None, False),
        ("ledger_broken", None, True),
        ("a kind of tomorrow", None, True),
    ],
)
def test_above_the_limit_and_for_what_nobody_foresaw_it_takes_two(kind: str, amount: Money | None, second: bool) -> None:  # noqa: FBT001
    ending = ending_of(Facts(kind, "x", amount))
    assert needs_second_person(ending, amount, LIMIT) is second


def test_what_ends_by_a_command_names_it() -> None:
    for kind, ending in ENDINGS.items():
        assert ending.end is not End.BY_COMMAND or "`vault " in ending.words, kind
