"""The partners' API over HTTP. Thin: what it answers is read and done by vault_core."""
