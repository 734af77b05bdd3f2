"""Loans paid out: detection, the wallet's charges, B2C instructions, results, questions (DESIGN.md section 4)."""
