-- Add what has ended to its minutes. The arrays are as long as the last bucket that is not empty.
INSERT INTO pgjobs.history AS h
  (kind, width, at, name, is_final, succeeded, failed, cancelled, retried, snoozed, rescued, waited, ran,
   waits, runs)
SELECT a.kind, 60, pg_catalog.to_timestamp(a.minute), a.name, a.is_final, a.succeeded, a.failed,
       a.cancelled, a.retried, a.snoozed, a.rescued, a.waited, a.ran, a.waits::integer[], a.runs::integer[]
FROM unnest(%(kinds)s::text[], %(minutes)s::float8[], %(names)s::text[], %(finals)s::boolean[],
            %(succeeded)s::bigint[], %(failed)s::bigint[], %(cancelled)s::bigint[], %(retried)s::bigint[],
            %(snoozed)s::bigint[], %(rescued)s::bigint[], %(waited)s::float8[], %(ran)s::float8[],
            %(waits)s::text[], %(runs)s::text[])
  AS a (kind, minute, name, is_final, succeeded, failed, cancelled, retried, snoozed, rescued, waited, ran,
        waits, runs)
ON CONFLICT (kind, width, at, name, is_final) DO UPDATE
SET succeeded = h.succeeded + excluded.succeeded,
    failed = h.failed + excluded.failed,
    cancelled = h.cancelled + excluded.cancelled,
    retried = h.retried + excluded.retried,
    snoozed = h.snoozed + excluded.snoozed,
    rescued = h.rescued + excluded.rescued,
    waited = h.waited + excluded.waited,
    ran = h.ran + excluded.ran,
    waits = ARRAY(SELECT coalesce(u.a, 0) + coalesce(u.b, 0)
                  FROM unnest(h.waits, excluded.waits) WITH ORDINALITY AS u (a, b, place)
                  ORDER BY u.place),
    runs = ARRAY(SELECT coalesce(u.a, 0) + coalesce(u.b, 0)
                 FROM unnest(h.runs, excluded.runs) WITH ORDINALITY AS u (a, b, place)
                 ORDER BY u.place)
