"""One lender's pay bill on the demo's day: customers pay or are prompted, and ops decide about what found no account."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeVar
from uuid import UUID

from sqlalchemy import Row, text

from local_stack.demo.acts import ACTOR, COLLEAGUE, Outside
from local_stack.demo.day_plan import PlannedPartner
from local_stack.demo.waiting_for import until
from vault_core.collections.assigning import Wish, approve, assign, move, reject, reverse
from vault_core.collections.listing import list_collections
from vault_core.collections.stk_asking import StkWish, ask_to_pay
from vault_core.errors import TransientError, Unreachable
from vault_core.money import Money
from vault_core.partners.collection_settings import set_collection_settings
from vault_core.partners.connections import Connections
from vault_core.partners.partner import Partner
from vault_core.runtime import Runtime

T = TypeVar("T")

_PAYMENT = text("SELECT state, reason, account_kind, account_id FROM collections WHERE short_code = :code AND receipt = :receipt")
_PROMPT = text("SELECT state, receipt FROM stk_requests WHERE id = :id")
_DECISION = text(
    """
    SELECT d.state, d.effect FROM collection_decisions d JOIN collections c ON c.id = d.collection_id
    WHERE c.short_code = :code AND c.receipt = :receipt AND d.kind = 'move' ORDER BY d.proposed_at DESC LIMIT 1
    """
)
_CASE = text("SELECT id, closed_at FROM cases WHERE kind = :kind AND subject = :subject LIMIT 1")


@dataclass(frozen=True, slots=True)
class Till:
    """The pay bill. What waits raises Unreachable when what it waits for does not come in a quarter of an hour."""

    runtime: Runtime
    connections: Connections
    outside: Outside
    partner: Partner
    planned: PlannedPartner

    async def take(self, phone: str, shillings: int, reference: str, **more: object) -> dict[str, Any]:
        """A customer pays, and what M-Pesa answers: `taken` with its `receipt`, or the `result_code` of our refusal."""
        order = {"short_code": self.planned.c2b_short_code, "phone": phone, "amount_cents": shillings * 100}
        return await self.outside.pull("c2b", order | {"bill_reference": reference} | more)

    async def pay(self, phone: str, shillings: int, reference: str, **more: object) -> str:
        """A customer pays; the receipt. Raises Unreachable if M-Pesa does not take it."""
        answer = await self.take(phone, shillings, reference, **more)
        if not answer["taken"]:
            raise Unreachable(f"a payment to {self.partner.name} was refused with {answer['result_code']}")
        receipt: str = answer["receipt"]
        return receipt

    async def comes_to(self, receipt: str, state: str, because: str = "") -> None:
        """Until the payment is in `state`, and the words that we give for it hold `because`."""

        async def look() -> bool:
            row = await self.one(_PAYMENT, code=self.planned.c2b_short_code, receipt=receipt)
            return row is not None and row.state == state and because in (row.reason or "")

        await until(look, f"payment {receipt} of {self.partner.name} to be {state} {because}".rstrip())

    async def is_posted(self, receipt: str, kind: str, account: int) -> None:
        """Until the payment is posted; raises Unreachable if to another account than that of this id in Mifos X."""
        await self.comes_to(receipt, "posted")
        row = await self.one(_PAYMENT, code=self.planned.c2b_short_code, receipt=receipt)
        if row is None or (row.account_kind, row.account_id) != (kind, account):
            raise Unreachable(f"payment {receipt} of {self.partner.name} was not posted to {kind} {account}: {row}")

    async def candidates(self, receipt: str) -> int:
        """How many accounts ops are shown that the payment may be for, as in `vault collections show`."""
        async with self.runtime.engine.connect() as connection:
            (listed,) = await list_collections(connection, self.runtime, partner=self.partner.name, receipt=receipt)
        return len(listed.candidates)

    async def prompt(self, key: str, phone: str, shillings: int, reference: str) -> UUID:
        """Ops have a customer prompted to pay, as `vault collect` does; the request's id."""
        wish = StkWish(
            partner_id=self.partner.id,
            key=key,
            amount=Money.shillings(shillings),
            phone=phone,
            account_reference=reference,
            description="Repayment",
            asked_by=ACTOR,
        )
        request, _ = await ask_to_pay(self.runtime, self.connections, wish)
        return request.id

    async def prompt_ends(self, request: UUID, state: str) -> str | None:
        """Until the prompt is in `state`; the receipt of one that was paid."""

        async def look() -> Row[Any] | None:
            row = await self.one(_PROMPT, id=request)
            return row if row is not None and row.state == state else None

        ended = await until(look, f"a prompt of {self.partner.name} to be {state}")
        receipt: str | None = ended.receipt
        return receipt

    async def assign(
        self, receipt: str, account: str, reason: str, *, two: bool = False, post_all: bool = False, remember: bool = False
    ) -> None:
        """Ops name the account of a payment, and a colleague agrees where one person's word is not enough (`two`)."""
        await self.propose(receipt, account, reason, post_all=post_all, remember=remember)
        if two:
            await self.agree(receipt)
        await self.comes_to(receipt, "posted")

    async def propose(self, receipt: str, account: str, reason: str, *, post_all: bool = False, remember: bool = False) -> None:
        """Ops name the account of a payment; above what one person may decide that is a proposal."""
        wish = Wish(receipt, reason, account=account, post_all=post_all, remember=remember)
        await self._at_last(lambda: assign(self.runtime, self.connections, wish, actor=ACTOR))

    async def refuse(self, receipt: str, reason: str) -> None:
        """The colleague looks, and rejects what was proposed about the payment."""
        await reject(self.runtime, receipt, reason=reason, actor=COLLEAGUE)

    async def move(self, receipt: str, reason: str, account: str | None = None, *, to: str = "posted") -> None:
        """Ops have a posting undone in Mifos X and the payment posted to another account, or kept in suspense without one."""
        wish = Wish(receipt, reason, account=account)
        await self._at_last(lambda: move(self.runtime, self.connections, wish, actor=ACTOR))
        await until(lambda: self._moved(receipt), f"payment {receipt} of {self.partner.name} to be moved")
        await self.comes_to(receipt, to)

    async def give_back(self, receipt: str, reason: str) -> None:
        """Ops propose that M-Pesa give a payment back, and a colleague agrees."""
        await reverse(self.runtime, Wish(receipt, reason), actor=ACTOR)
        await self.agree(receipt)

    async def agree(self, receipt: str) -> None:
        """The colleague looks, and agrees to what was proposed about the payment."""
        await self._at_last(lambda: approve(self.runtime, self.connections, receipt, actor=COLLEAGUE))

    async def settings(self, **changes: object) -> None:
        """Ops change how the lender's payments are taken, as `vault partner collections` does."""
        await set_collection_settings(self.runtime, self.partner, changes, actor=ACTOR)

    async def case(self, kind: str, subject: str, *, closed: bool = False) -> UUID:
        """Until there is such a case, or it has closed; its id."""

        async def look() -> Row[Any] | None:
            row = await self.one(_CASE, kind=kind, subject=subject)
            return row if row is not None and (row.closed_at is not None or not closed) else None

        row = await until(look, f"a case {kind} about {subject}" + (" to close" if closed else ""))
        found: UUID = row.id
        return found

    async def one(self, query: Any, **values: object) -> Row[Any] | None:
        """The one row of a question to our own database; None where there is none."""
        async with self.runtime.engine.connect() as connection:
            return (await connection.execute(query, values)).one_or_none()

    async def _moved(self, receipt: str) -> bool:
        row = await self.one(_DECISION, code=self.planned.c2b_short_code, receipt=receipt)
        if row is not None and row.state == "failed":
            raise Unreachable(f"payment {receipt} of {self.partner.name} was not moved: {row.effect}")
        return row is not None and row.state == "done"

    async def _at_last(self, act: Callable[[], Awaitable[T]]) -> T:
        """What the act comes to: a person whom Mifos X does not answer does the same again a little later."""

        async def attempt() -> tuple[T] | None:
            try:
                return (await act(),)
            except TransientError:
                return None

        (done,) = await until(attempt, f"Mifos X of {self.partner.name} to answer")
        return done
