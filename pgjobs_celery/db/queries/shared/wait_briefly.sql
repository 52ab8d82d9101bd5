-- How long this transaction waits for a row that another session holds; 0 for as long as it takes.
SELECT pg_catalog.set_config('lock_timeout', %(milliseconds)s::text, true)
