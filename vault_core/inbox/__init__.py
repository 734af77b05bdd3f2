"""Deliveries from outside: stored before they are acknowledged, applied once, never dropped (DESIGN.md section 3)."""
