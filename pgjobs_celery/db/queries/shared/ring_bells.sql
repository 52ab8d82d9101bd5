-- So many jobs are ready in a queue: wake about as many of the workers that wait for it. Each worker
-- listens to one of a few bells and holds the bell's key of the queue; of the bells that somebody listens
-- to, some are rung at random. To wake all for one job costs each of them a look, which finds nothing.
-- An odd step leads to each of the bells, whose number is a power of 2; with a step of 1 those behind many
-- that nobody listens to would be rung most.
-- A number makes each ringing another payload: two of them are two jobs.
-- If workers wait and none has a bell, all are told; so it is for a bell that was silenced meanwhile.
-- After the commit, as wake_sleepers. The keys are let go of at once: a bell that nobody listens to now
-- may be listened to next.
WITH waits AS (
  SELECT
  WHERE NOT pg_catalog.pg_try_advisory_xact_lock(
    %(space)s::integer, pg_catalog.hashtext(%(channel)s || %(name)s))
), rung AS (
  SELECT b.bell
  FROM (
    SELECT pg_catalog.left(%(channel)s, %(length)s::integer) || '.'
           || pg_catalog.mod(f.first + n.number * f.step, %(bells)s::integer)::text AS bell
    FROM waits,
         (SELECT pg_catalog.floor(pg_catalog.random() * %(bells)s::float8)::integer AS first,
                 2 * pg_catalog.floor(
                   pg_catalog.random() * %(bells)s::float8 / 2::float8)::integer + 1 AS step) AS f,
         pg_catalog.generate_series(1, %(bells)s::integer) AS n (number)) AS b
  WHERE CASE WHEN pg_catalog.pg_try_advisory_lock(
                    %(space)s::integer, pg_catalog.hashtext(b.bell || %(name)s))
             THEN NOT pg_catalog.pg_advisory_unlock(
                    %(space)s::integer, pg_catalog.hashtext(b.bell || %(name)s))
             ELSE true END
  LIMIT %(count)s::integer
)
SELECT pg_catalog.pg_notify(
  r.bell,
  %(rung)s || pg_catalog.floor(pg_catalog.random() * 1e9::float8)::bigint::text || ':' || %(name)s)
FROM rung AS r
UNION ALL
SELECT pg_catalog.pg_notify(%(channel)s, %(kind)s || %(name)s)
FROM waits
WHERE NOT EXISTS (SELECT FROM rung)
