-- How each gate stands that was passed lately, by the rule that counts for its flow: how much of it is used, and
-- in how many seconds the next start may be; those that are used most first. All flows, or those named. A
-- place of a job that runs no more is free, though no claim has seen that yet. Reads the gates: one row for
-- each key that was used within its period.
WITH rules AS MATERIALIZED (
  SELECT DISTINCT ON (f.flow) f.flow, f.amount, f.period, f.burst, f.algorithm
  FROM pgjobs.flows AS f
  WHERE %(flows)s::text[] IS NULL
     OR f.flow = ANY (%(flows)s::text[])
  ORDER BY f.flow, f.source DESC
), clock AS MATERIALIZED (
  SELECT extract(epoch FROM pg_catalog.clock_timestamp())::float8 AS now
), stands AS (
  SELECT r.flow, t.name AS gate,
         CASE
           WHEN r.period IS NULL THEN (
             SELECT pg_catalog.count(*)
             FROM unnest(g.jobs, g.attempts) AS p (job, attempt)
             WHERE p.attempt = (SELECT j.attempt FROM pgjobs.jobs AS j
                                WHERE j.id = p.job AND j.claimed_by IS NOT NULL
                                  AND j.message IS NOT NULL))
           WHEN r.algorithm = 'bucket'
             THEN pg_catalog.ceil(pg_catalog.round((greatest(0, g.full_at - c.now) * r.amount::float8 / r.period)::numeric, 6))
           ELSE (SELECT coalesce(pg_catalog.sum(w.number), 0)
                 FROM unnest(g.times, g.counts) AS w (at, number)
                 WHERE w.at > c.now - r.period)
         END::bigint AS used,
         CASE
           WHEN r.amount = 0 THEN NULL
           WHEN r.period IS NULL THEN NULL
           WHEN r.algorithm = 'bucket'
             THEN greatest(0, g.full_at - c.now
                              - (coalesce(r.burst, r.amount) - 1)::float8 * r.period / r.amount::float8)
           -- The start that has to leave the period before there is room: the newest up to which, from
           -- the end, as many were taken as may be.
           ELSE (SELECT greatest(0, pg_catalog.max(w.at) + r.period - c.now)
                 FROM (SELECT v.at, pg_catalog.sum(v.number) OVER (ORDER BY v.at DESC) AS since
                       FROM unnest(g.times, g.counts) AS v (at, number)
                       WHERE v.at > c.now - r.period) AS w
                 WHERE w.since >= r.amount)
         END::float8 AS next_in
  FROM pgjobs.gates AS g
  -- The gates of a rule for each worker by itself end in @ and the number of its node.
  CROSS JOIN LATERAL (
    SELECT CASE WHEN g.gate ~ '@[0-9a-f-]{36}$'
                THEN pg_catalog.left(g.gate, -37) ELSE g.gate END AS name
  ) AS t
  JOIN rules AS r ON r.flow = pg_catalog.split_part(t.name, '=', 1)
  CROSS JOIN clock AS c
  WHERE %(gates)s::text[] IS NULL
     OR t.name = ANY (%(gates)s::text[])
), ranked AS (
  SELECT s.*, pg_catalog.row_number() OVER (PARTITION BY s.flow ORDER BY s.used DESC, s.gate) AS place,
         pg_catalog.count(*) OVER (PARTITION BY s.flow) AS gates
  FROM stands AS s
  WHERE s.used > 0
)
SELECT k.flow, k.gate, k.used, least(coalesce(k.next_in, 0), 1e12), k.gates
FROM ranked AS k
WHERE k.place <= %(limit)s::bigint
ORDER BY k.flow, k.place
