"""Requests that a real Apache Fineract (commit 4198b0bc) refused or answered with nothing: the sandbox does it in the same words.

The answers in fineract_corners.json were taken from a running server on 2026-11-24; its loan 1 was approved, its savings account 1 active.
"""

import json
from pathlib import Path
from typing import Any

import pytest

CORNERS = json.loads((Path(__file__).parents[2] / "data" / "fineract_corners.json").read_text())
TODAY = "2026-11-24"
WORLD = {
    "settings": {"now": f"{TODAY}T07:00:00+00:00"},
    "mifos": {
        "real": {
            "users": [{"username": "mifos", "password": "password"}],
            "products": [{"name": "Vault Test Loan"}],
            "clients": [{"first_name": "Wanjiku", "last_name": "Kamau"}],
            "loans": [{"client": 1, "product": 1, "principal_cents": 10_000_00}],
            "savings": [{"client": 1}],
        }
    },
}


def _today(value: Any) -> Any:
    return json.loads(json.dumps(value).replace("TODAY", TODAY))


@pytest.mark.parametrize("corner", CORNERS, ids=[corner["name"] for corner in CORNERS])
def test_a_corner_is_answered_as_by_the_real_server(driver, corner: dict[str, Any]):
    driver.setup(**WORLD)
    answer = driver.http.request(
        corner["method"],
        f"{driver.url}/mifos/real/fineract-provider/api/v1{corner['path']}",
        content=b"" if corner["body"] is None else json.dumps(_today(corner["body"])),
        headers={"Content-Type": "application/json", "Fineract-Platform-TenantId": "default"},
        auth=("mifos", "password"),
    )
    body = answer.json()
    if isinstance(body, dict):
        body.pop("timestamp", None)
    assert (answer.status_code, body) == (corner["status"], _today(corner["answer"]))
