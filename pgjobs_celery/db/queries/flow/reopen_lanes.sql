-- Open the lanes of a queue whose time has come, and those in which a place has come free; and note when the gates
-- that lanes have in common open. Under its lock. Whether a job still runs is looked up in its row, so that no way
-- out needs to know of lanes: 3 us for each job that runs in a lane that is full. A lane that was shut has its turn
-- now, and does not catch up on what it has missed.
-- Nothing is locked: a gate that is shut again when the claim comes to it lets nothing pass then.
WITH round AS MATERIALIZED (
  SELECT r.turn, r.pass, r.reopened, r.commons, r.floors, r.opens
  FROM pgjobs.rounds AS r
  WHERE r.queue = %(queue)s
  ORDER BY r.turn DESC
  LIMIT 1
), due AS MATERIALIZED (
  SELECT d.at, d.common, d.shut_until
  FROM round AS r
  CROSS JOIN LATERAL (
    SELECT l.ctid AS at, l.common, l.shut_until
    FROM pgjobs.lanes AS l
    WHERE l.queue = %(queue)s
      AND l.shut_until IS NOT NULL
      AND l.shut_until >= r.reopened
      AND l.shut_until <= pg_catalog.now()
    ORDER BY l.shut_until
    LIMIT %(limit)s::bigint
  ) AS d
), looked AS MATERIALIZED (
  -- Lanes that wait for a place, and classes, which have a floor: when their gates open, 0 where they are.
  SELECT w.at, w.common, w.floor, coalesce((
      SELECT pg_catalog.max(CASE
          WHEN (f.flow).period IS NULL AND (f.flow).amount > (
            SELECT pg_catalog.count(*)
            FROM unnest((g.gate).jobs, (g.gate).attempts) AS h (job, attempt)
            WHERE h.attempt = (
              SELECT j.attempt
              FROM pgjobs.jobs AS j
              WHERE j.id = h.job AND j.claimed_by IS NOT NULL AND j.message IS NOT NULL)) THEN 0
          -- The rate of a lane is asked by its claim.
          WHEN (f.flow).period IS NOT NULL AND (f.flow).amount > 0 AND w.floor IS NULL THEN 0
          ELSE nullif(pgjobs.gate_opens(f.flow, g.gate, 1, n.now), n.now)
        END)
      FROM pg_catalog.unnest(w.gates) AS u (gate)
      CROSS JOIN LATERAL (
        SELECT o AS flow
        FROM pgjobs.flows AS o
        WHERE o.flow = pg_catalog.split_part(u.gate, '=', 1)
        ORDER BY o.source DESC
        LIMIT 1
      ) AS f
      LEFT JOIN LATERAL (
        SELECT v AS gate
        FROM pgjobs.gates AS v
        WHERE v.gate = u.gate || CASE (f.flow).scope WHEN 'worker' THEN '@' || %(node)s::text ELSE '' END
        ORDER BY v.turn DESC
        LIMIT 1
      ) AS g ON true
      WHERE (f.flow).amount IS NOT NULL), 0) AS opens
  FROM (
    SELECT l.ctid AS at, l.common, NULL::double precision AS floor, l.gates
    FROM pgjobs.lanes AS l
    WHERE l.queue = %(queue)s
      AND l.shut_until = 'infinity'
    UNION ALL
    SELECT NULL, k.common, pg_catalog.min(k.floor), pg_catalog.string_to_array(k.common, E'\n')
    FROM (
      SELECT u.common, u.floor
      FROM round AS r
      CROSS JOIN LATERAL unnest(r.commons, r.floors) AS u (common, floor)
      UNION ALL
      SELECT d.common, r.pass FROM due AS d CROSS JOIN round AS r
    ) AS k
    GROUP BY k.common
  ) AS w
  CROSS JOIN (SELECT extract(epoch FROM pg_catalog.now())::double precision AS now) AS n
), opened AS (
  UPDATE pgjobs.lanes AS l
  SET shut_until = NULL,
      pass = greatest(l.pass, r.pass)
  FROM round AS r
  WHERE l.ctid = ANY (ARRAY(
    SELECT d.at FROM due AS d
    UNION ALL
    SELECT k.at FROM looked AS k WHERE k.opens < 'infinity'))
)
UPDATE pgjobs.rounds AS o
SET turn = o.turn + 1,
    reopened = coalesce((SELECT pg_catalog.max(d.shut_until) FROM due AS d), o.reopened),
    commons = coalesce(f.commons, '{}'),
    floors = coalesce(f.floors, '{}'),
    opens = coalesce(f.opens, '{}')
FROM round AS r, (
  SELECT pg_catalog.array_agg(g.common ORDER BY g.common) AS commons,
         pg_catalog.array_agg(g.floor ORDER BY g.common) AS floors,
         pg_catalog.array_agg(g.opens ORDER BY g.common) AS opens
  FROM (
    SELECT k.common, pg_catalog.min(coalesce(k.floor, r.pass)) AS floor, pg_catalog.max(k.opens) AS opens
    FROM looked AS k
    CROSS JOIN round AS r
    WHERE k.floor IS NOT NULL
       OR k.opens < 'infinity'
    GROUP BY k.common
  ) AS g
) AS f
WHERE o.queue = %(queue)s
  AND o.turn = r.turn
  AND (f.floors::text IS DISTINCT FROM r.floors::text OR f.opens::text IS DISTINCT FROM r.opens::text
       OR EXISTS (SELECT FROM due))
