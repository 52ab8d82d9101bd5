-- A rule that a hand sets: it counts, whatever the code of workers says, until it is reset. The gates of the
-- flow keep what they have counted.
INSERT INTO pgjobs.flows AS f (flow, source, by, amount, period, burst, algorithm, scope)
VALUES (%(flow)s, 'hand', %(by)s, %(amount)s::integer, %(period)s::float8, %(burst)s::integer,
        %(algorithm)s, %(scope)s)
ON CONFLICT (flow, source) DO UPDATE
SET by = excluded.by,
    amount = excluded.amount,
    period = excluded.period,
    burst = excluded.burst,
    algorithm = excluded.algorithm,
    scope = excluded.scope,
    updated_at = pg_catalog.now()
