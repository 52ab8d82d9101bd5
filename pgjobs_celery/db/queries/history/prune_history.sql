-- Buckets that are older than is kept of their width.
DELETE FROM pgjobs.history AS h
WHERE h.kind = ANY('{all,task,queue}'::text[])
  AND h.width = %(width)s::integer
  AND h.at < pg_catalog.now() - %(max_age)s::float8 * interval '1 second'
