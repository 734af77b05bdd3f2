"""The paged list of savings accounts."""

import re

from sandbox.asgi import Answer, json_answer
from sandbox.mifos.access import check_read
from sandbox.mifos.commands import Caller, Groups, Handler
from sandbox.mifos.errors import spring
from sandbox.mifos.partial import SAVINGS_FIELDS, partial
from sandbox.mifos.savings import savings_view


async def list_savings(caller: Caller, _: Groups) -> Answer:
    """GET /savingsaccounts: filters by external id alone; no, zero or negative limits mean all, as in the list of loans."""
    check_read(caller.user, "savingsaccount")
    query = caller.request.query
    try:
        offset, limit = int(query.get("offset") or 0), int(query.get("limit") or -1)
    except ValueError:
        return spring(404, "Not Found", caller.request.path)
    if offset < 0:
        return spring(500, "Internal Server Error", caller.request.path)
    wanted = query.get("externalId")
    found = [each for each in caller.host.savings.values() if not wanted or each.external_id == wanted]
    found.sort(key=lambda each: each.id, reverse=query.get("sortOrder", "ASC").upper() == "DESC")
    shown = found[offset : offset + limit] if limit > 0 else found[offset:]
    items = [partial(savings_view(each, transactions=False), caller.request, SAVINGS_FIELDS) for each in shown]
    return json_answer({"totalFilteredRecords": len(found), "pageItems": items})


LIST_ROUTES: tuple[tuple[str, re.Pattern[str], str, Handler], ...] = (
    ("GET", re.compile(r"/api/v1/savingsaccounts"), "savings accounts", list_savings),
)
