"""The sandbox's world for a planned day, and what each lender would write into its partner file."""

import json
from datetime import date, timedelta
from typing import Any

from local_stack.demo.day_plan import (
    DISABLED_PRODUCT,
    ENABLED_PRODUCTS,
    TRANCHE_PRODUCT,
    DayPlan,
    Found,
    PlannedLoan,
    PlannedPartner,
    PlannedPayment,
    Trouble,
    loan_of,
)
from local_stack.demo.live_office import LiveMifos
from local_stack.demo.small_lenders import FEE_BAND, LOCKED_OUT, OLD_FASHIONED, TROUBLED, Payer, Role, loan_with, paying_phone
from vault_core.partners.system_fees import percent_text
from vault_core.phones import normalise_phone

_WITHOUT_CALENDAR = [
    *(f"READ_{what}" for what in ("LOANPRODUCT", "LOAN", "CLIENT", "SAVINGSACCOUNT", "PAYMENTTYPE", "HOOK", "BUSINESS_DATE")),
    *("DISBURSE_LOAN", "REPAYMENT_LOAN", "ADJUST_LOAN", "DEPOSIT_SAVINGSACCOUNT", "UNDOTRANSACTION_SAVINGSACCOUNT"),
    *("CREATE_PAYMENTTYPE", "CREATE_HOOK", "UPDATE_HOOK"),
]
MIFOS_USER, OFFICER, MIFOS_PASSWORD = "payments", "officer", "demo-password"
SMALL = frozenset({TROUBLED, LOCKED_OUT, OLD_FASHIONED})
SMS_PRICE = "0.80"

# Which things go wrong at the large lenders, and how often; the seed decides for whom. At least two of each, because one could be
# drawn for a loan that the day holds for a person and never pays.
FAULTS: dict[str, dict[str, Any]] = {
    "result_lost": {"times": 3},
    "result_late": {"times": 4},
    "result_twice": {"times": 5},
    "result_before_answer": {"times": 5},
    "answer_lost_after_paying": {"times": 3},
    "queue_timeout_then_result": {"times": 2},
    "insufficient_float": {"times": 2},
    "unknown_receiver": {"times": 2},
    "duplicate_answer": {"times": 2},
    "spike_arrest": {"times": 3},
    "oauth_token_dies": {"times": 2},
    "html_answer": {"times": 2},
    "soap_answer": {"times": 3},
    "empty_answer": {"times": 2},
    "result_in_texts": {"times": 5},
    "c2b_confirmation_twice": {"rate": 0.05},
    "c2b_confirmation_late": {"rate": 0.03},
    "mifos_409_lock": {"times": 3},
    "mifos_409_conflict": {"times": 2},
    "mifos_425": {"times": 3},
    "mifos_425_for_ever": {"times": 2},
    "mifos_500_after_posting": {"times": 3},
    "mifos_timeout_after_posting": {"times": 3},
    "hook_missing": {"times": 4},
    "sms_refused": {"times": 3},
    "sms_timed_out_after_sending": {"times": 3},
}


def planned_faults(plan: DayPlan) -> dict[str, list[dict[str, Any]]]:
    """All switches of the day: those drawn at random, for the large lenders only, and those meant for one loan of a small one."""
    large = [
        place for p in plan.partners if p.name not in SMALL for place in (p.b2c_short_code, p.c2b_short_code, p.host, p.name)
    ]
    switches = {name: [{**switch, "scope": large}] for name, switch in FAULTS.items()}
    for partner in plan.partners:
        if partner.name in SMALL:
            for name, switch in _faults_of_small(partner).items():
                switches.setdefault(name, []).append(switch)
    return switches


def _faults_of_small(partner: PlannedPartner) -> dict[str, dict[str, Any]]:
    if partner.name == LOCKED_OUT:
        return {
            "initiator_locked": {"rate": 1.0, "per_unit": 99, "scope": [partner.b2c_short_code]},
            "c2b_confirmation_lost": _of_payers(partner, Payer.UNCONFIRMED),
        }

    if partner.name == OLD_FASHIONED:
        first, second = (f"loan:{loan.number}" for loan in partner.approved[:2])
        return {
            "mifos_500_after_posting": {"units": [first], "scope": [partner.host]},
            "mifos_timeout_after_posting": {"units": [second], "scope": [partner.host]},
        }

    def payees(*troubles: Trouble) -> list[str]:
        loans = [loan_with(partner, trouble) for trouble in troubles]
        return [normalise_phone(partner.clients[loan.client - 1].phone or "") for loan in loans]

    on_code, on_host = {"scope": [partner.b2c_short_code]}, {"scope": [partner.host]}
    refused, checked = loan_with(partner, Trouble.POSTED_BY_HAND), loan_with(partner, Trouble.CHECKED)
    return {
        "result_lost": {"units": payees(Trouble.TWO_PERSONS, Trouble.FEE_DIFFERS), **on_code},
        "status_result_lost": {"units": payees(Trouble.TWO_PERSONS), "per_unit": 99, **on_code},
        "result_contradicted": {"units": payees(Trouble.CONTRADICTED), **on_code},
        "tariff_changed": {"units": [str(FEE_BAND)], "per_unit": 99, **on_code},
        "unknown_receiver": {"units": payees(Trouble.NUMBER_WRONG), **on_code},
        "amount_changed": {"units": payees(Trouble.OTHER_AMOUNT), **on_code},
        "result_without_parameters": {"units": payees(Trouble.BARE_RESULT), **on_code},
        "never_processed": {"units": payees(Trouble.FORGOTTEN), **on_code},
        "mifos_waits_for_checker": {"units": [f"loan:{checked.number}"], **on_host},
        "mifos_403_client_not_active": {"units": [f"loan:{refused.number}"], **on_host},
        "mifos_500_after_posting": {"units": [f"loan:{loan_of(partner, Role.BY_PHONE).number}"], **on_host},  # a repayment
        "mifos_timeout_after_posting": {"units": ["savings:1"], **on_host},  # a deposit
        **_faults_of_payers(partner),
    }


def _faults_of_payers(partner: PlannedPartner) -> dict[str, dict[str, Any]]:
    return {
        "c2b_confirmation_lost": _of_payers(partner, Payer.UNCONFIRMED),
        "stk_cancelled": _of_payers(partner, Payer.DECLINES, Payer.SILENT),
        "stk_no_answer": _of_payers(partner, Payer.NEVER_ANSWERS),
        "stk_answer_lost": _of_payers(partner, Payer.NEVER_ANSWERS),
        "stk_callback_lost": _of_payers(partner, Payer.NEVER_ANSWERS, Payer.UNHEARD, Payer.DENIED, Payer.SILENT),
        "stk_callback_twice": _of_payers(partner, Payer.PROMPTED),
        "pull_row_doubled": _of_payers(partner, Payer.UNCONFIRMED),
        "stk_query_wrong": _of_payers(partner, Payer.DENIED) | {"per_unit": 99},
    }


def _of_payers(partner: PlannedPartner, *payers: Payer) -> dict[str, Any]:
    return {"units": [paying_phone(partner, payer) for payer in payers], "scope": [partner.c2b_short_code]}


def sandbox_world(plan: DayPlan, day: date, now: str) -> dict[str, Any]:
    """The world to set up: M-Pesa codes, a Mifos X host a lender, SMS users. `now` is an ISO moment. Nothing goes wrong yet."""
    return {
        "mpesa": {
            "apps": [
                {
                    "consumer_key": f"key-{p.name}",
                    "consumer_secret": f"secret-{p.name}",
                    "short_codes": [p.b2c_short_code, p.c2b_short_code],
                }
                for p in plan.partners
            ],
            "short_codes": {
                code: {
                    "name": p.display_name.upper(),
                    "utility_cents": cents,
                    "c2b_bouquet": p.collections.bouquet if p.collections else "business",
                    "initiator": "vaultapi",
                    "security_credential": f"cred-{p.name}",
                    "external_validation": p.asked_first,
                    "passkey": passkey_of(p),
                }
                for p in plan.partners
                for code, cents in ((p.b2c_short_code, p.float_at_first * 100), (p.c2b_short_code, 0))
            },
        },
        "mifos": {p.host: _host(p, day) for p in plan.partners if not p.live},
        "sms": {
            "users": [
                {"user": p.name, "api_key": f"sms-{p.name}", "senders": ["LENDER"], "balance_cents": 10_000_000}
                for p in plan.partners
            ]
        },
        "settings": {
            "now": now,
            "result_delay_ms": 200,
            "late_ms": 6000,
            "hang_ms": 1000,
            "b2c_latency_ms": 30,
            "mifos_latency_ms": 15,
        },
    }


def partner_file(partner: PlannedPartner, sandbox_url: str, server: LiveMifos | None = None) -> str:
    """The TOML that `vault partner add` would be given for this lender; `server` is the Mifos X of the live one."""
    core = server if partner.live and server is not None else _sandbox_core(partner, sandbox_url)
    return f"""
[partner]
name = "{partner.name}"
display_name = "{partner.display_name}"

[mifos]
url = {_toml(core.url)}
tenant = {_toml(core.tenant)}
user = {_toml(core.user)}
password = {_toml(core.password)}

[mpesa]
url = "{sandbox_url}/daraja"
consumer_key = "key-{partner.name}"
consumer_secret = "secret-{partner.name}"
initiator = "vaultapi"
security_credential = "cred-{partner.name}"
b2c_short_code = "{partner.b2c_short_code}"
c2b_short_code = "{partner.c2b_short_code}"

[sms]
url = "{sandbox_url}/airtouch"
user = "{partner.name}"
api_key = "sms-{partner.name}"
sender = "LENDER"
price = "{SMS_PRICE}"

[charges]
system_fee = "{partner.system_fee}.00"
low_balance = "500.00"
{_collection_charges(partner)}
[collections]
overpayment = "{partner.overpayment}"

[[contacts]]
role = "operations"
name = "Operations of {partner.display_name}"
phone = "{_contact_phone(partner)}"
"""


def _sandbox_core(partner: PlannedPartner, sandbox_url: str) -> LiveMifos:
    url = f"{sandbox_url}/mifos/{partner.host}/fineract-provider/api/v1"
    return LiveMifos(url, "default", MIFOS_USER, MIFOS_PASSWORD)


def _toml(text: str) -> str:
    return json.dumps(text)  # a basic string of TOML is one of JSON, but for characters that no login has


def _collection_charges(partner: PlannedPartner) -> str:
    charges = partner.collections
    if charges is None:
        return ""
    return f"""c2b_bouquet = "{charges.bouquet}"
c2b_fee_paid_by = "wallet"

[[charges.system_fees]]
service = "collection"
percent = "{percent_text(charges.rate_basis_points)}"
min = {charges.least}
max = {charges.most}
"""


def passkey_of(partner: PlannedPartner) -> str:
    """What Safaricom gave the lender for STK push."""
    return f"passkey-{partner.name}"


def account_no(partner: PlannedPartner, kind: str, number: int) -> str:
    """The account number of a loan or savings account in the lender's Mifos X."""
    return f"{number:09d}" if kind == "loan" else f"{partner.b2c_short_code}{number:05d}"


def payment_order(partner: PlannedPartner, payment: PlannedPayment) -> dict[str, Any]:
    """The payment as the sandbox takes it, with the bill reference as its payer typed it."""
    return {
        "short_code": partner.c2b_short_code,
        "phone": normalise_phone(payment.phone),
        "amount_cents": payment.amount * 100,
        "bill_reference": _bill_reference(partner, payment),
    }


def _closed_on(day: date) -> dict[str, Any]:
    """A holiday that only the posting meets: our user may not see it, and the server goes by the day of the posting."""
    users = [{"username": MIFOS_USER, "password": MIFOS_PASSWORD, "permissions": _WITHOUT_CALENDAR}]
    users.append({"username": OFFICER, "password": MIFOS_PASSWORD})
    return {"closed_days": {day.isoformat(): "holiday"}, "version": "1.10.1", "users": users}


def _host(partner: PlannedPartner, day: date) -> dict[str, Any]:
    return {
        "tenant": "default",
        "b2c_short_code": partner.b2c_short_code,
        "sms_user": partner.name,
        "legacy": partner.old_server,
        "users": [{"username": user, "password": MIFOS_PASSWORD} for user in (MIFOS_USER, OFFICER)],
        **(_closed_on(day) if partner.closed_today else {}),
        "products": [
            # Without interest at the small ones: what an older loan owes is its principal, in whole shillings.
            {"id": number, "name": name, "multi_disburse": number == TRANCHE_PRODUCT}
            | ({"monthly_rate_bp": 0} if partner.name in SMALL else {})
            for number, name in (*ENABLED_PRODUCTS.items(), DISABLED_PRODUCT)
        ],
        "clients": [
            {"id": c.number, "first_name": c.name.split()[0], "last_name": c.name.split()[1], "mobile_no": c.phone}
            for c in partner.clients
        ],
        "loans": [_loan(partner, loan, day) for loan in partner.loans],
        "savings": [
            {
                "id": s.number,
                "client": s.client,
                "account_no": account_no(partner, "savings", s.number),
                "external_id": partner.external_id("savings", s.number),
                "currency": s.currency,
                "blocked": s.blocked,
            }
            for s in partner.savings
        ],
    }


def _loan(partner: PlannedPartner, loan: PlannedLoan, day: date) -> dict[str, Any]:
    status = {Found.POLL: 200, Found.HOOK: 100, None: 300}[loan.found]
    row = {
        "id": loan.number,
        "client": loan.client,
        "product": loan.product,
        "principal_cents": loan.principal * 100,
        "fee_cents": loan.fee_at_disbursement * 100,
        "status": status,
        "account_no": account_no(partner, "loan", loan.number),
        "external_id": partner.external_id("loan", loan.number),
        "expected_on": day.isoformat(),
        "approved_on": day.isoformat(),
        "tranches": [{"principal_cents": part * 100, "expected_on": day.isoformat()} for part in loan.tranches],
    }
    if loan.topup_of is not None:
        row["topup_of"] = loan.topup_of
    return row | ({"disbursed_on": (day - timedelta(days=30)).isoformat()} if loan.found is None else {})


def _bill_reference(partner: PlannedPartner, payment: PlannedPayment) -> str:
    if payment.target is None:
        return f"SCHOOL FEES {payment.number}"
    kind, number = payment.target
    plain = account_no(partner, kind, number)
    external = partner.external_id(kind, number)
    return {"plain": plain, "spaced": f" {plain} ", "external": external, "lower": external.lower()}[payment.spelling]


def _contact_phone(partner: PlannedPartner) -> str:
    return f"0799{partner.b2c_short_code}"
