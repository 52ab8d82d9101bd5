-- A notification, to see whether it arrives.
SELECT pg_catalog.pg_notify(%(channel)s::text, '')
