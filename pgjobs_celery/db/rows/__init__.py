"""Rows of the schema's tables: a class for each concern, a method for each statement."""
