"""What finance reads: the day's books held against each other (DESIGN.md section 8)."""
