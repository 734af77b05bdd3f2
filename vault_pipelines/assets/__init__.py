"""Report assets and their checks."""
