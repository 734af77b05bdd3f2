"""docs/api.md names what the API has."""

from pathlib import Path

from partner_portal.openapi import make_document
from partner_portal.portal import OPERATIONS
from vault_core.collections.stk_verdict import StkState
from vault_core.partners.api_tokens import Scope

API = (Path(__file__).parents[2] / "docs" / "api.md").read_text(encoding="utf-8")


def test_every_route_has_an_example_and_every_scope_state_and_refusal_is_explained():
    for operation in OPERATIONS:
        assert f'"$API{operation.path.partition("{")[0]}' in API, operation.path
    for word in (*Scope, *StkState):
        assert f"| `{word}` |" in API
    statuses = {int(s) for item in make_document(OPERATIONS)["paths"].values() for one in item.values() for s in one["responses"]}
    for status in statuses:
        assert str(status) in API
