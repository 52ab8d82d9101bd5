WITH counted AS (
  UPDATE pgjobs.fold AS f
  SET counted_at = pg_catalog.clock_timestamp(),
      counting = %(seconds)s::float8
)
INSERT INTO pgjobs.lines (queue, state, node, jobs, oldest)
SELECT *
FROM unnest(%(queues)s::text[], %(states)s::text[], %(nodes)s::uuid[], %(jobs)s::bigint[],
            %(oldest)s::float8[])
