"""What assets and ops are handed."""
