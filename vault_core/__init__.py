"""The business of Payment Vault. Imports no Dagster, no Faust, no web framework (DESIGN.md section 1)."""
