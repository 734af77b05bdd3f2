"""Two people at one machine, each with a login of their own: the whole `vault` command, and the machine's own word on who acts."""

import base64
import json
import os
import subprocess
import sys
from pathlib import Path
from uuid import UUID

import pytest

from local_stack.home import REPOSITORY
from vault_core.cases.case_book import NewCase, list_open_cases, open_cases
from vault_core.money import Money
from vault_core.runtime import Runtime

NO_LOGIN = str(2**32 - 1)
ASHA, BARASA = 1, 2  # numbers of users that every system has

# Root without a login of the kernel's is whoever called sudo (vault_cli/session.py): so root can act as two people here.
one_machine = pytest.mark.skipif(
    os.getuid() != 0 or Path("/proc/self/loginuid").read_text(encoding="ascii").strip() != NO_LOGIN,
    reason="the machine says who is logged in, and it is one person",
)


@one_machine
async def test_one_login_cannot_approve_what_it_proposed_and_another_can(
    runtime: Runtime, lender, database_url: str, tmp_path: Path
) -> None:
    async with runtime.engine.begin() as connection:
        gap = NewCase("float_gap", "short code 600100", lender.id, Money.shillings(60_000))
        await open_cases(connection, runtime.clock, runtime.new_id, [gap])
        case_id: UUID = (await list_open_cases(connection))[0].id

    def vault(login: int, *arguments: str) -> subprocess.CompletedProcess[str]:
        environment = {
            "PATH": os.environ["PATH"], "VAULT_HOME": str(tmp_path / "home"), "VAULT_DATABASE_URL": database_url,
            "VAULT_KAFKA_BOOTSTRAP": "127.0.0.1:1", "VAULT_MASTER_KEY": f"test:{base64.b64encode(bytes(32)).decode()}",
            "NO_COLOR": "1", "SUDO_UID": str(login), "LOGNAME": "somebody-else",
        }  # fmt: skip
        command = [sys.executable, "-m", "vault_cli", *arguments]
        return subprocess.run(command, check=False, capture_output=True, text=True, env=environment, cwd=REPOSITORY)

    words = ("--reason", "an officer moved it", "--evidence", "utility statement of today, line 7")
    proposed = vault(ASHA, "cases", "close", case_id.hex[-8:], *words)
    assert (proposed.returncode, "needs a second person" in proposed.stdout) == (0, True), proposed.stderr
    own = vault(ASHA, "cases", "approve", str(case_id))
    assert (own.returncode, "another login" in own.stderr) == (4, True)
    approved = vault(BARASA, "cases", "approve", str(case_id), "--json")
    assert approved.returncode == 0, approved.stderr
    closing = json.loads(approved.stdout)["closings"][0]
    assert (closing["state"], closing["proposed_by"] == closing["decided_by"]) == ("applied", False)
