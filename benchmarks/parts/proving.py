"""The proof of a whole ledger, in whichever process calls it."""

import resource

from vault_core.database import open_sync_engine
from vault_core.ledger.verification import LedgerProof, ProofScope, prove_ledger


def prove(app_url: str, scope: ProofScope, connections: int) -> tuple[LedgerProof, int]:
    """The proof, and the most memory that this process has had, in KiB."""
    reader = open_sync_engine(app_url)
    proof = prove_ledger(reader, scope, connections=connections)
    reader.dispose()
    return proof, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
