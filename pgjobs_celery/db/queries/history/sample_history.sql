-- How many jobs could run, and ran, at this look; of a minute the most is kept.
INSERT INTO pgjobs.history AS h (kind, width, at, name, ready, running)
SELECT a.kind, 60, pg_catalog.date_bin('1 minute', pg_catalog.now(), '2000-01-01 00:00:00+00'), a.name,
       a.ready, a.running
FROM unnest(%(kinds)s::text[], %(names)s::text[], %(ready)s::bigint[], %(running)s::bigint[])
  AS a (kind, name, ready, running)
ON CONFLICT (kind, width, at, name, is_final) DO UPDATE
SET ready = greatest(h.ready, excluded.ready),
    running = greatest(h.running, excluded.running)
WHERE h.ready IS NULL
   OR h.running IS NULL
   OR excluded.ready > h.ready
   OR excluded.running > h.running
