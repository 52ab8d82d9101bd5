-- The rules of a worker's code. Written where they are others than before, so that a hundred workers that start
-- write nothing. Returns those that were written.
INSERT INTO pgjobs.flows AS f (flow, source, amount, period, by, burst, algorithm, scope)
SELECT DISTINCT ON (n.flow) n.flow, 'code', n.amount, n.period, n.by, n.burst, n.algorithm, n.scope
FROM unnest(%(flows)s::text[], %(amounts)s::integer[], %(periods)s::double precision[], %(bys)s::text[],
            %(bursts)s::integer[], %(algorithms)s::text[], %(scopes)s::text[])
     AS n (flow, amount, period, by, burst, algorithm, scope)
WHERE NOT EXISTS (
  SELECT FROM pgjobs.flows AS o
  WHERE o.flow = n.flow AND o.source = 'code'
    AND (o.amount, o.period, o.by, o.burst, o.algorithm, o.scope)
        IS NOT DISTINCT FROM (n.amount, n.period, n.by, n.burst, n.algorithm, n.scope))
ORDER BY n.flow
ON CONFLICT (flow, source) DO UPDATE
SET amount = excluded.amount,
    period = excluded.period,
    by = excluded.by,
    burst = excluded.burst,
    algorithm = excluded.algorithm,
    scope = excluded.scope,
    updated_at = pg_catalog.now()
RETURNING f.flow
