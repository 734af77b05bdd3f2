"""Dagster code location and Faust streams: thin shells over vault_core."""
