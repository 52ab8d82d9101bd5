-- Announce that this session waits for these names: until it ends, anybody with news of one finds its
-- key taken. Returns the names whose key another session holds exclusively: a session that has news,
-- which this one does not hear, or anybody at all. Never waits for it: any role may take a key.
SELECT n.name
FROM pg_catalog.unnest(%(names)s::text[]) AS n (name)
WHERE NOT pg_catalog.pg_try_advisory_lock_shared(
  %(space)s::integer, pg_catalog.hashtext(n.name))
