-- Say that this session does not wait for these any more.
SELECT pg_advisory_unlock_shared(%(space)s::integer, hashtext(n.name))
FROM unnest(%(names)s::text[]) AS n (name)
