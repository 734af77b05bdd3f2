"""Everybody who acts on the demo's day, and their acts side by side."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field

from local_stack.demo.acts import Outside, live_the_day
from local_stack.demo.cashiers import Cashiers
from local_stack.demo.commands import Commands
from local_stack.demo.day_plan import NORMAL_FLOAT, DayPlan, PlannedPartner
from local_stack.demo.diary import Diary
from local_stack.demo.gatekeepers import Gatekeepers
from local_stack.demo.live_lender import LiveLender
from local_stack.demo.live_tellers import LiveTellers
from local_stack.demo.officer import Officer
from local_stack.demo.on_call import OnCall
from local_stack.demo.other_program import OtherProgram
from local_stack.demo.payers import Payers
from local_stack.demo.people import People
from local_stack.demo.prompted import Prompted
from local_stack.demo.small_lenders import LOCKED_OUT, TROUBLED
from local_stack.demo.till import Till
from local_stack.plan import Plan
from vault_core.partners.connections import Connections
from vault_core.partners.partner import Partner
from vault_core.runtime import Runtime

_WAVE_SECONDS = 2.0


@dataclass(slots=True)
class Everybody:
    """The people of the day, and what they noted. `lenders`: by name, as they were taken in and as they were planned."""

    runtime: Runtime
    connections: Connections
    outside: Outside
    plan: Plan
    planned: DayPlan
    lenders: Mapping[str, tuple[Partner, PlannedPartner]]
    live: LiveLender | None
    diary: Diary = field(default_factory=Diary)
    placed: dict[str, dict[tuple[str, int], int]] = field(default_factory=dict)  # of the live lender: live_tellers.py

    async def act(self) -> None:
        """All acts of the day: what officers and customers do, what people see to, and the kill of the live server.

        Raises a group of what they raise.
        """
        sandbox_url, http = self.plan.environment["VAULT_SANDBOX_URL"], self.runtime.http
        people = People(self.runtime, self.outside, sandbox_url, self.lenders)
        troubled, locked_out = self._till(TROUBLED), self._till(LOCKED_OUT)
        commands, api = Commands(self.plan.environment), f"http://127.0.0.1:{self.plan.ports['portal'].number}"
        other_program = OtherProgram(sandbox_url, locked_out.planned, http)
        async with asyncio.TaskGroup() as acts:
            waves = acts.create_task(live_the_day(self.outside, self.planned, wave_seconds=_WAVE_SECONDS, live=self.live))
            for partner in self.planned.partners:
                if partner.second_top_up:
                    acts.create_task(people.tops_up(partner.name, after=waves.done))
                if partner.float_at_first < NORMAL_FLOAT:
                    acts.create_task(people.buys_float(partner.name))
            for act in (
                people.unlock(LOCKED_OUT),
                *people.at_troubled(TROUBLED),
                *OnCall(people, commands, self.diary, *self.lenders[TROUBLED]).acts(),
                *Payers(troubled, self.diary).acts(),
                *Prompted(troubled, self.diary, commands, api).acts(),
                *Cashiers(troubled, self.diary, Officer(sandbox_url, troubled.planned.host, http)).acts(),
                *Gatekeepers(locked_out, self.diary, commands, other_program).acts(after=waves.done),
            ):
                acts.create_task(act)
            if self.live is not None:
                acts.create_task(self.live.be_killed(self.runtime))
                for act in LiveTellers(self._till(self.live.planned.name), self.live, self.placed).acts():
                    acts.create_task(act)

    def _till(self, name: str) -> Till:
        return Till(self.runtime, self.connections, self.outside, *self.lenders[name])
