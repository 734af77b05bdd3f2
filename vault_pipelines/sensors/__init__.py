"""Sensors and the jobs they start."""
