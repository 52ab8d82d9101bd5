"""Assertions on captured jobs, and the report of one that fails."""
