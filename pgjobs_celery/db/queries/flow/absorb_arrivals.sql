-- Learn of the jobs that have come into the lanes of a queue since the last claim; under its lock. A lane that
-- comes gets the turn after the present one; one whose share has other lanes gets theirs. The jobs of a parked
-- lane (pause/...) wait until they are taken out of it, so that it need not be known.
-- Arrivals are read from where all that is older was absorbed: what a long transaction wrote, or a snapshot
-- keeps, is not in front of them. 4 us for each arrival, 15 more for a lane that comes.
WITH round AS MATERIALIZED (
  SELECT r.turn, r.pass, r.absorbed, r.commons, r.floors
  FROM pgjobs.rounds AS r
  WHERE r.queue = %(queue)s
  ORDER BY r.turn DESC
  LIMIT 1
), came AS (
  DELETE FROM pgjobs.arrivals AS a
  WHERE a.ctid = ANY (ARRAY(
    SELECT f.ctid
    FROM pgjobs.arrivals AS f
    WHERE f.queue = %(queue)s
      AND f.xid >= coalesce((SELECT r.absorbed FROM round AS r), '0'::xid8)
    ORDER BY f.queue, f.xid, f.lane, f.priority, f.seq
    LIMIT %(limit)s::bigint
  ))
  RETURNING a.xid, a.lane, a.priority, a.seq
), first AS MATERIALIZED (
  SELECT DISTINCT ON (c.lane) c.lane, c.priority, c.seq
  FROM came AS c
  ORDER BY c.lane, c.priority, c.seq
), known AS MATERIALIZED (
  SELECT f.lane, f.priority, f.seq, p.share, p.gates, p.common, l.at
  FROM first AS f
  CROSS JOIN LATERAL (
    SELECT coalesce(pg_catalog.max(t.line) FILTER (WHERE pg_catalog.starts_with(t.line, 'share=')), '')
             AS share,
           coalesce(pg_catalog.array_agg(t.line)
                      FILTER (WHERE NOT pg_catalog.starts_with(t.line, 'share=')), '{}') AS gates,
           coalesce(pg_catalog.string_agg(t.line, E'\n') FILTER (
             WHERE pg_catalog.strpos(t.line, '=') = 0), '') AS common,
           pg_catalog.bool_or(pg_catalog.starts_with(t.line, 'pause/')) AS is_parked
    FROM pg_catalog.unnest(pg_catalog.string_to_array(f.lane, E'\n')) AS t (line)
  ) AS p
  LEFT JOIN LATERAL (
    SELECT o.ctid AS at
    FROM pgjobs.lanes AS o
    WHERE o.queue = %(queue)s
      AND o.share = p.share
      AND o.lane = f.lane
    ORDER BY o.pass DESC
    LIMIT 1
  ) AS l ON true
  WHERE p.is_parked IS NOT TRUE
), lowered AS (
  UPDATE pgjobs.lanes AS l
  SET priority = k.priority,
      seq = k.seq
  FROM known AS k
  WHERE l.ctid = k.at
    AND (k.priority, k.seq) < (l.priority, l.seq)
), added AS (
  INSERT INTO pgjobs.lanes (queue, share, lane, pass, gates, common, weight, priority, seq)
  SELECT %(queue)s, k.share, k.lane,
         greatest(coalesce(s.pass, n.pass + 1::double precision / w.weight), n.pass),
         k.gates, k.common, w.weight, k.priority, k.seq
  FROM known AS k
  CROSS JOIN (SELECT coalesce((SELECT r.pass FROM round AS r), 0::double precision) AS pass) AS n
  CROSS JOIN LATERAL (
    SELECT coalesce((
      SELECT y.weight
      FROM pgjobs.weights AS y
      WHERE y.queue = %(queue)s
        AND y.key = pg_catalog.substr(k.share, 7)
        AND k.share <> ''), 1::double precision) AS weight
  ) AS w
  LEFT JOIN LATERAL (
    SELECT o.pass
    FROM pgjobs.lanes AS o
    WHERE o.queue = %(queue)s
      AND o.share = k.share
      AND k.share <> ''
    ORDER BY o.lane DESC, o.pass DESC
    LIMIT 1
  ) AS s ON true
  WHERE k.at IS NULL
  RETURNING common
), noted AS MATERIALIZED (
  SELECT (SELECT pg_catalog.count(*) FROM came) AS came,
         least(pg_catalog.pg_snapshot_xmin(pg_catalog.pg_current_snapshot()),
               -- A batch that is full has read up to here.
               CASE WHEN (SELECT pg_catalog.count(*) FROM came) >= %(limit)s::bigint
                    THEN (SELECT c.xid FROM came AS c ORDER BY c.xid DESC LIMIT 1) END) AS absorbed,
         -- The classes that were not known, or not from so early on; reopen_lanes joins the two.
         ARRAY(
           SELECT DISTINCT a.common
           FROM added AS a
           WHERE NOT EXISTS (
             SELECT
             FROM round AS r
             CROSS JOIN LATERAL unnest(r.commons, r.floors) AS u (common, floor)
             WHERE u.common = a.common
               AND u.floor <= r.pass)) AS commons
), begun AS (
  INSERT INTO pgjobs.rounds (queue, absorbed, commons, floors)
  SELECT %(queue)s, n.absorbed, n.commons,
         pg_catalog.array_fill(0::double precision, ARRAY[pg_catalog.cardinality(n.commons)])
  FROM noted AS n
  WHERE NOT EXISTS (SELECT FROM round)
), advanced AS (
  UPDATE pgjobs.rounds AS o
  SET turn = o.turn + 1,
      absorbed = greatest(n.absorbed, o.absorbed),
      commons = o.commons OPERATOR(pg_catalog.||) n.commons,
      floors = o.floors OPERATOR(pg_catalog.||)
               pg_catalog.array_fill(r.pass, ARRAY[pg_catalog.cardinality(n.commons)])
  FROM noted AS n, round AS r
  WHERE o.queue = %(queue)s
    AND o.turn = r.turn
    AND n.came > 0
)
SELECT n.came >= %(limit)s::bigint FROM noted AS n
