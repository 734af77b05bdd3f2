"""Money that came in: matched to an account, posted, receipted, or in suspense with a case (DESIGN.md section 5)."""
