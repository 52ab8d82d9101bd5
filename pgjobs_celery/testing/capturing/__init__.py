"""Capture what an app publishes, without a server."""
