-- Say that this session waits for these: until it ends, whoever has news of one finds the key taken.
SELECT pg_advisory_lock_shared(%(space)s::integer, hashtext(n.name))
FROM unnest(%(names)s::text[]) AS n (name)
