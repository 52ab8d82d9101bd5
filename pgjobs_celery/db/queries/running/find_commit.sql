-- The state of a transaction whose end its client did not hear of. Raises for a number that is not
-- given out yet: on a server that has taken over without it.
SELECT pg_catalog.pg_xact_status(%(xid)s::text::xid8), pg_catalog.pg_is_in_recovery()
