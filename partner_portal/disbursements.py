"""One disbursement."""

from starlette.responses import JSONResponse, Response

from partner_portal.operations import Call, Operation, Parameter
from partner_portal.reading import read_id, read_query
from vault_core.disbursements.partner_payout import load_partner_payout
from vault_core.partners.api_tokens import Scope


async def show(call: Call) -> Response:
    """Where it stands."""
    read_query(call.request, frozenset())
    number = read_id(call.request.path_params["id"])
    async with call.runtime.engine.connect() as connection:
        one = await load_partner_payout(connection, call.runtime, call.caller.partner_id, number)
    return JSONResponse(
        {
            "id": str(one.id),
            "loan_id": one.loan_id,
            "loan_account_no": one.loan_account_no,
            "tranche": one.tranche,
            "payout": str(one.payout.as_decimal()),
            "principal": str(one.principal.as_decimal()),
            "currency": "KES",
            "state": one.state,
            "held_for": one.held_for,
            "phone": one.phone,
            "receipt": one.receipt,
            "detected_at": one.detected_at.isoformat(),
            "paid_at": one.paid_at.isoformat() if one.paid_at else None,
            "posted_at": one.posted_at.isoformat() if one.posted_at else None,
        }
    )


OPERATIONS = (
    Operation(
        "GET",
        "/v1/disbursements/{id}",
        "showDisbursement",
        "Where a disbursement stands",
        "`disbursed` is paid to the client and posted in Mifos X.",
        Scope.DISBURSEMENTS_READ,
        show,
        {200: ("The disbursement.", "Disbursement")},
        parameters=(Parameter("id", "path", "Its `id`.", {"type": "string", "format": "uuid"}, required=True),),
        problems=(404,),
    ),
)
