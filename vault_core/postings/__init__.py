"""Intended writes to Mifos X, each made once (reference/fineract.md sections 4 to 6)."""
