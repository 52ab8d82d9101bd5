-- Say that this session waits for these: until it ends, whoever has news of one finds the key taken.
-- Comes back with those that could not be said, because somebody has the key for himself: one who has
-- news, and whom we do not hear, or anybody at all. Never waited for: a key is everybody's to take.
SELECT n.name
FROM pg_catalog.unnest(%(names)s::text[]) AS n (name)
WHERE NOT pg_catalog.pg_try_advisory_lock_shared(
  %(space)s::integer, pg_catalog.hashtext(n.name))
