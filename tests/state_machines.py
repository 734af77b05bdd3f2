"""Running a state machine on a database of its own, as short as a suite can bear or as long as a campaign."""

from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, run_state_machine_as_test


def run_on_database(machine: type[RuleBasedStateMachine], database_url: str, *, examples: int, steps: int) -> None:
    """Runs `machine`, which finds `database_url` as an attribute of itself. Every run draws anew."""
    run_state_machine_as_test(
        type("Machine", (machine,), {"database_url": database_url}),
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
