-- How many jobs stand at a problem that failed within a span of time, up to so many, and the first of them.
SELECT pg_catalog.count(*), pg_catalog.min(l.failed_at), pg_catalog.now()
FROM (
  SELECT j.failed_at
  FROM pgjobs.jobs AS j
  WHERE j.fingerprint = %(fingerprint)s::text
    AND j.failed_at > %(since)s::timestamptz
    AND j.failed_at <= least(%(until)s::timestamptz, pg_catalog.now())
  ORDER BY j.failed_at DESC
  LIMIT %(depth)s::bigint
) AS l
