"""The HTTP edge: verify, store, acknowledge, publish. No business rules (DESIGN.md section 3)."""
