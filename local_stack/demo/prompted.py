"""Customers of the troubled lender who are prompted to pay, by ops and by a program of the lender's, and what becomes of that."""

from collections.abc import Coroutine
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

import httpx
from sqlalchemy import text

from local_stack.demo.acts import ACTOR
from local_stack.demo.commands import Commands
from local_stack.demo.day_plan import PlannedPartner
from local_stack.demo.diary import Diary
from local_stack.demo.small_lenders import Payer, paying_phone, repaid_loans
from local_stack.demo.till import Till
from local_stack.demo.waiting_for import until
from local_stack.demo.world import account_no
from vault_core.errors import Unreachable
from vault_core.partners.api_tokens import Scope, add_api_token

_SMALL = 700  # shillings, and one more for each payer, so that nobody's payment is like another's

_TOLD_TWICE = text(
    """
    SELECT c.id FROM collections c JOIN collection_tellings t ON t.collection_id = c.id
    WHERE c.short_code = :code AND c.receipt = :receipt AND c.state = 'posted' AND c.source IN ('c2b', 'stk')
          AND t.source IN ('c2b', 'stk') AND t.source <> c.source
    """
)
_SAID = text("SELECT callback_code, query_code FROM stk_requests WHERE id = :id")


@dataclass(frozen=True, slots=True)
class Prompted:
    """Everybody. Each act raises Unreachable when what it waits for does not come."""

    till: Till
    diary: Diary
    commands: Commands
    api: str

    def acts(self) -> list[Coroutine[Any, Any, None]]:
        """All of it, side by side."""
        return [
            self.pay_by_command(),
            self.decline_by_api(),
            self.never_answer(),
            self.be_asked_about(Payer.UNHEARD, "paid", "0", "paid_without_callback"),
            self.be_asked_about(Payer.DENIED, "paid", "1037", "paid_in_spite_of_answer"),
            self.be_asked_about(Payer.SILENT, "declined", "1032", "declined_without_callback"),
        ]

    async def pay_by_command(self) -> None:
        """Ops prompt a customer with `vault collect`. The callback and a confirmation tell of the same money."""
        words = ("--phone", paying_phone(self._planned, Payer.PROMPTED), "--amount", str(_amount(Payer.PROMPTED)))
        asked = await self.commands.run(
            "collect", self._planned.name, *words, "--account", self._loan, "--reason", "the client called"
        )
        receipt = await self.till.prompt_ends(UUID(asked["id"]), "paid")
        key = {"code": self._planned.c2b_short_code, "receipt": receipt}
        await until(lambda: self.till.one(_TOLD_TWICE, **key), f"payment {receipt} to be told twice and posted")
        self.diary.note("asked_by_command")

    async def decline_by_api(self) -> None:
        """A program of the lender's prompts a customer over the API, and asks until it hears that he declined."""
        scopes, life = (Scope.COLLECT_WRITE, Scope.COLLECT_READ), timedelta(days=1)
        token, _ = await add_api_token(self.till.runtime, self.till.partner, "branch-app", scopes, valid_for=life, actor=ACTOR)
        wish = {
            "phone": paying_phone(self._planned, Payer.DECLINES),
            "amount": str(_amount(Payer.DECLINES)),
            "account_reference": self._loan,
        }
        asked = await self._ask(token, "POST", "", json=wish, headers={"Idempotency-Key": "visit-7781"})

        async def look() -> bool:
            return bool((await self._ask(token, "GET", f"/{asked['id']}"))["state"] == "declined")

        await until(look, "the API to say that the customer declined")
        self.diary.note("asked_by_api")

    async def never_answer(self) -> None:
        """M-Pesa's answer to the request is lost, and nothing is ever heard of it."""
        await self.till.prompt_ends(await self._prompt(Payer.NEVER_ANSWERS), "expired")

    async def be_asked_about(self, payer: Payer, end: str, said: str, note: str) -> None:
        """The callback never comes. M-Pesa is asked and says `said`; the end is what happened."""
        request = await self._prompt(payer)
        await self.till.prompt_ends(request, end)
        row = await self.till.one(_SAID, id=request)
        if row is None or (row.callback_code, row.query_code) != (None, said):
            raise Unreachable(f"the prompt of the {payer} payer ended by {row}, and not by the answer {said} to a question")
        self.diary.note(note)

    async def _prompt(self, payer: Payer) -> UUID:
        return await self.till.prompt(f"demo-{payer}", paying_phone(self._planned, payer), _amount(payer), self._loan)

    async def _ask(self, token: str, method: str, path: str, **more: Any) -> dict[str, Any]:
        headers = {"Authorization": f"Bearer {token}", **more.pop("headers", {})}
        url = f"{self.api}/v1/collections/stk{path}"
        try:
            answer = await self.till.runtime.http.request(method, url, headers=headers, **more)
        except httpx.HTTPError as error:
            raise Unreachable(f"the API does not answer {method} {url}: {error}") from error
        if answer.is_error:
            raise Unreachable(f"the API refused {method} {url}: {answer.status_code} {answer.text[:400]}")
        told: dict[str, Any] = answer.json()
        return told

    @property
    def _loan(self) -> str:
        return account_no(self._planned, "loan", repaid_loans(self._planned)[1].number)

    @property
    def _planned(self) -> PlannedPartner:
        return self.till.planned


def _amount(payer: Payer) -> int:
    return _SMALL + list(Payer).index(payer)
