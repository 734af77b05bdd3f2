"""Calls to the outside that a transaction decided: written with it, made after it, retried on a schedule in the row."""
