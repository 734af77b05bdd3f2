"""M-Pesa as Daraja shows it: OAuth, B2C v3, transaction status and C2B, over books of what really moved."""
