-- Withdraw names: this session does not wait for them any more.
SELECT pg_catalog.pg_advisory_unlock_shared(%(space)s::integer, pg_catalog.hashtext(n.name))
FROM pg_catalog.unnest(%(names)s::text[]) AS n (name)
