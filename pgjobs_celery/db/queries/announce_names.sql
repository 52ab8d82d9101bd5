-- Say that this session waits for these: until it ends, whoever has news of one finds the key taken.
SELECT pg_catalog.pg_advisory_lock_shared(%(space)s::integer, pg_catalog.hashtext(n.name))
FROM pg_catalog.unnest(%(names)s::text[]) AS n (name)
