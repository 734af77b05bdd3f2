"""The double-entry ledger: accounts, postings, holds, tariffs, and the proof of all of them (DESIGN.md section 6)."""
