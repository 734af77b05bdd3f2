"""Lenders: how to reach their systems, their sealed credentials, products, contacts and callback URLs."""
