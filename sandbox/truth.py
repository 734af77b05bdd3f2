"""The truth books: what really moved, what is really posted, what was really sent. All amounts in whole cents."""

from typing import Any

from sandbox.daraja.books import ShortCode
from sandbox.mifos.host import Loan, LoanTransaction, MifosHost, Savings
from sandbox.mifos.loan_state import figures
from sandbox.world import World


def truth(world: World) -> dict[str, Any]:
    """Everything (GET /truth)."""
    return {
        "mpesa": {
            "short_codes": {code.code: _short_code(code) for code in world.mpesa.short_codes.values()},
            "prompts": _prompts(world),
        },
        "mifos": {host.name: _host(host) for host in world.mifos.values()},
        "sms": {"users": {user.user: _sms_user(user) for user in world.sms.users.values()}},
        **_counts(world),
    }


def summary(world: World) -> dict[str, Any]:
    """Sums only (GET /truth/summary)."""
    codes = {}
    for code in world.mpesa.short_codes.values():
        paid = [payout for payout in code.payouts if payout.result_code == "0"]
        codes[code.code] = {
            "utility_cents": code.utility_cents,
            "charges_cents": code.charges_cents,
            "b2c_count": len(paid),
            "b2c_cents": sum(payout.amount_cents for payout in paid),
            "b2c_fee_cents": sum(payout.fee_cents for payout in paid),
            "c2b_count": len(code.payments),
            "c2b_cents": sum(payment.amount_cents for payment in code.payments),
            "c2b_fee_cents": sum(payment.fee_cents for payment in code.payments),
            "c2b_customer_fee_cents": sum(payment.customer_fee_cents for payment in code.payments),
            "reversed_count": sum(each.result_code == "0" for each in code.reversals),
            "reversed_cents": sum(each.amount_cents for each in code.reversals if each.result_code == "0"),
        }
    users = {
        user.user: {"messages": len(user.messages), "parts": sum(message.parts for message in user.messages)}
        for user in world.sms.users.values()
    }
    hosts = {host.name: _host_sums(host) for host in world.mifos.values()}
    return {"mpesa": {"short_codes": codes}, "mifos": hosts, "sms": {"users": users}, **_counts(world)}


def _counts(world: World) -> dict[str, Any]:
    return {
        "faults": dict(world.faults.fired),
        "calls": dict(world.calls),
        "deliveries": dict(world.deliveries.outcomes),
        "pending": world.deliveries.pending,
    }


def _short_code(code: ShortCode) -> dict[str, Any]:
    """`b2c` is what moved money; `b2c_failed` is what the core refused. `reversals` has both."""
    rows = [
        {
            "originator_conversation_id": payout.originator_conversation_id,
            "conversation_id": payout.conversation_id,
            "receipt": payout.transaction_id,
            "phone": payout.phone,
            "amount_cents": payout.amount_cents,
            "fee_cents": payout.fee_cents,
            "result_code": payout.result_code,
            "at": payout.at.isoformat(),
        }
        for payout in code.payouts
    ]
    return {
        "utility_cents": code.utility_cents,
        "charges_cents": code.charges_cents,
        "came_back_cents": code.came_back_cents,
        "confirmation_url": code.confirmation_url,
        "b2c": [row for row in rows if row["result_code"] == "0"],
        "b2c_failed": [row for row in rows if row["result_code"] != "0"],
        "reversals": [
            {
                "receipt": each.transaction_id,
                "original": each.original,
                "amount_cents": each.amount_cents,
                "result_code": each.result_code,
                "at": each.at.isoformat(),
            }
            for each in code.reversals
        ],
        "c2b": [
            {
                "receipt": payment.receipt,
                "phone": payment.phone,
                "amount_cents": payment.amount_cents,
                "fee_cents": payment.fee_cents,
                "customer_fee_cents": payment.customer_fee_cents,
                "bill_reference": payment.bill_reference,
                "at": payment.at.isoformat(),
            }
            for payment in code.payments
        ],
    }


def _prompts(world: World) -> list[dict[str, Any]]:
    return [
        {
            "checkout_request_id": prompt.checkout_request_id,
            "short_code": prompt.short_code,
            "phone": prompt.phone,
            "amount_cents": prompt.amount_cents,
            "account_reference": prompt.account_reference,
            "result_code": prompt.result_code,
            "receipt": prompt.receipt,
        }
        for prompt in world.mpesa.prompts.values()
    ]


def _host(host: MifosHost) -> dict[str, Any]:
    return {
        "loans": {str(loan.id): _loan(loan) for loan in host.loans.values()},
        "savings": {str(account.id): _savings(account) for account in host.savings.values()},
        "hooks": [hook.url for hook in host.hooks.values()],
    }


def _loan(loan: Loan) -> dict[str, Any]:
    return {
        "account_no": loan.account_no,
        "status": loan.status,
        "principal_cents": loan.principal_cents,
        "net_cents": loan.net_cents,
        "outstanding_cents": figures(loan).outstanding_cents if loan.status >= 300 else None,
        "transactions": [_transaction(each) for each in loan.transactions if each.kind != "accrual"],  # an accrual moves nothing
    }


def _transaction(transaction: LoanTransaction) -> dict[str, Any]:
    return {
        "id": transaction.id,
        "kind": transaction.kind,
        "amount_cents": transaction.amount_cents,
        "external_id": transaction.external_id,
        "receipt": (transaction.detail.receipt_number or None) if transaction.detail else None,
        "reversed": transaction.reversed_on is not None,
        "on": transaction.on.isoformat(),
    }


def _savings(account: Savings) -> dict[str, Any]:
    return {
        "account_no": account.account_no,
        "status": account.status,
        "balance_cents": account.balance_cents,
        "transactions": [
            {
                "id": each.id,
                "kind": "deposit",
                "amount_cents": each.amount_cents,
                "external_id": each.external_id,
                "receipt": each.detail.receipt_number or None,
                "reversed": each.reversed,
                "on": each.on.isoformat(),
            }
            for each in account.transactions
        ],
    }


def _host_sums(host: MifosHost) -> dict[str, Any]:
    live = [each for loan in host.loans.values() for each in loan.transactions if each.reversed_on is None]
    sums: dict[str, int] = {}
    for kind, name in (("disbursement", "disbursed"), ("repayment", "repaid")):
        rows = [each.amount_cents for each in live if each.kind == kind and each.external_id is not None]
        sums |= {f"{name}_count": len(rows), f"{name}_cents": sum(rows)}
    deposits = [each.amount_cents for account in host.savings.values() for each in account.transactions if not each.reversed]
    return sums | {"deposit_count": len(deposits), "deposit_cents": sum(deposits)}


def _sms_user(user: Any) -> dict[str, Any]:
    return {
        "messages": [
            {
                "sms_id": message.sms_id,
                "phone": message.phone,
                "parts": message.parts,
                "at": message.at.isoformat(),
                "sender": message.sender,
                "text": message.text,
            }
            for message in user.messages
        ],
        "parts": sum(message.parts for message in user.messages),
        "balance_cents": user.balance_cents,
    }
