"""The schema's migrations: their files, running them, and the version of a schema."""
