"""HTTP clients of the outside systems, without business rules."""
