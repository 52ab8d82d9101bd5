-- A call, or code outside of jobs, has a rate or limit under a name, which no worker's code registers. Written
-- where it is another than before, so that publishers do not wait for each other. Who does not say by which
-- argument it counts leaves that as it is.
INSERT INTO pgjobs.flows AS f (flow, source, amount, period, by, burst, algorithm, scope)
VALUES (%(flow)s, 'code', %(amount)s::integer, %(period)s::double precision, %(by)s::text,
        %(burst)s::integer, %(algorithm)s, %(scope)s)
ON CONFLICT (flow, source) DO UPDATE
SET amount = excluded.amount,
    period = excluded.period,
    by = coalesce(excluded.by, f.by),
    burst = excluded.burst,
    algorithm = excluded.algorithm,
    scope = excluded.scope,
    updated_at = pg_catalog.now()
WHERE (f.amount, f.period, f.by, f.burst, f.algorithm, f.scope)
      IS DISTINCT FROM (excluded.amount, excluded.period, coalesce(excluded.by, f.by), excluded.burst,
                        excluded.algorithm, excluded.scope)
