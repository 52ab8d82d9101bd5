"""The only place that knows PostgreSQL: statements, connections, rows."""
