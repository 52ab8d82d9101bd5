-- Take jobs from the open lanes of a queue in turn; under its lock, after free_slots, absorb_arrivals and
-- reopen_lanes in the same transaction. Returns the claims as claim_jobs does, then a row without an id: how many
-- lanes it has looked at, whether another look may find more at once, in how many seconds a gate opens, and
-- the gates that have no row yet (make_gates).
-- Never more than a gate allows: its row is locked, and read as it is then, whoever has written it. A gate that
-- another claim has locked counts as shut, so nothing is waited for. A start is counted at now(), which is
-- its attempted_at.
-- Turns are those of start-time fair queueing: each lane has the round of its next turn, a job taken puts it
-- 1/weight rounds further, and those with the lowest round come first. Lanes of one share share their round.
-- In a queue that is not fair a lane gives up to 8 jobs in its turn, more where few lanes are open.
-- The jobs of a lane are read in an order that jobs_lanes alone has: where the statistics know nothing, the planner
-- would walk the whole line of the queue for each lane.
-- Lanes whose common gates are shut are not looked at; one with a gate of its own that is shut is marked, and not
-- looked at until that opens. So a look costs what it takes, and not what waits.
WITH alive AS MATERIALIZED (
  SELECT n.node
  FROM pgjobs.nodes AS n
  WHERE n.node = %(node)s::uuid
    AND n.heartbeat_at > pg_catalog.now() - n.lease * interval '1 second'
  FOR KEY SHARE
), clock AS MATERIALIZED (
  SELECT extract(epoch FROM pg_catalog.now())::double precision AS now,
         greatest(0, least(%(limit)s::bigint, %(places)s::bigint, (
           SELECT CASE
               WHEN l.paused_at IS NOT NULL THEN 0
               WHEN l.concurrency IS NULL THEN NULL
               ELSE l.concurrency - (
                 SELECT pg_catalog.count(*) FROM pgjobs.slots AS t WHERE t.queue = l.queue)
             END
           FROM pgjobs.limits AS l
           WHERE l.queue = %(queue)s))) AS room,
         (SELECT l.ageing FROM pgjobs.limits AS l WHERE l.queue = %(queue)s) AS ageing
  FROM alive
), round AS MATERIALIZED (
  SELECT r.turn, r.pass, r.reopened, r.commons, r.floors
  FROM pgjobs.rounds AS r
  WHERE r.queue = %(queue)s
  ORDER BY r.turn DESC
  LIMIT 1
), classes AS MATERIALIZED (
  SELECT u.common, u.floor
  FROM round AS r
  CROSS JOIN LATERAL unnest(r.commons, r.floors) AS u (common, floor)
), common_gates AS MATERIALIZED (
  SELECT w.gate, f.flow, f.state, s.turn AS seen, g.gate AS held,
         CASE WHEN (f.flow).period IS NULL THEN (f.flow).amount - coalesce(h.running, 0)
              WHEN (f.flow).algorithm = 'bucket' THEN pg_catalog.floor(
                coalesce((f.flow).burst, (f.flow).amount)::double precision
                - least(greatest(coalesce((g.gate).full_at, 0) - c.now, 0) * (f.flow).amount::double precision
                        / (f.flow).period, 1e9::double precision)
                + 1e-6::double precision)::bigint
              ELSE (f.flow).amount - (
                SELECT coalesce(pg_catalog.sum(u.count), 0)
                FROM unnest((g.gate).times, (g.gate).counts) AS u (at, count)
                WHERE u.at > c.now - (f.flow).period
                  AND u.at < c.now + (f.flow).period * 1.02::double precision)::bigint
         END AS free,
         h.jobs, h.attempts
  FROM (
    SELECT DISTINCT t.gate
    FROM classes AS k
    CROSS JOIN LATERAL pg_catalog.unnest(pg_catalog.string_to_array(k.common, E'\n')) AS t (gate)
  ) AS w
  CROSS JOIN clock AS c
  CROSS JOIN LATERAL (
    SELECT o AS flow, w.gate || CASE o.scope WHEN 'worker' THEN '@' || %(node)s::text ELSE '' END AS state
    FROM pgjobs.flows AS o
    WHERE o.flow = w.gate
    ORDER BY o.source DESC
    LIMIT 1
  ) AS f
  LEFT JOIN LATERAL (
    SELECT v.turn FROM pgjobs.gates AS v WHERE v.gate = f.state ORDER BY v.turn DESC LIMIT 1
  ) AS s ON true
  LEFT JOIN LATERAL (
    SELECT v AS gate FROM pgjobs.gates AS v WHERE v.gate = f.state ORDER BY v.turn DESC LIMIT 1
    FOR NO KEY UPDATE SKIP LOCKED
  ) AS g ON true
  LEFT JOIN LATERAL (
    SELECT pg_catalog.count(*) AS running, pg_catalog.array_agg(u.job) AS jobs,
           pg_catalog.array_agg(u.attempt) AS attempts
    FROM unnest((g.gate).jobs, (g.gate).attempts) AS u (job, attempt)
    WHERE (f.flow).period IS NULL
    -- What this statement's snapshot may be too old to know counts as running.
      AND ((g.gate).turn <> s.turn OR u.attempt = (
        SELECT j.attempt FROM pgjobs.jobs AS j WHERE j.id = u.job AND j.claimed_by IS NOT NULL))
  ) AS h ON true
  WHERE (f.flow).amount IS NOT NULL
), open_classes AS MATERIALIZED (
  SELECT k.common, k.floor, o.is_open, o.opens
  FROM classes AS k
  CROSS JOIN LATERAL (
    SELECT pg_catalog.bool_and((g.held).turn IS NOT NULL AND g.free > 0) IS NOT FALSE AS is_open,
           -- NULL where one is locked, or has no row.
           CASE WHEN pg_catalog.bool_and((g.held).turn IS NOT NULL)
                THEN pg_catalog.max(CASE WHEN g.free > 0 THEN 0
                                         ELSE pgjobs.gate_opens(g.flow, g.held, 1, c.now) END) END AS opens
    FROM common_gates AS g
    CROSS JOIN clock AS c
    WHERE g.gate = ANY (pg_catalog.string_to_array(k.common, E'\n'))
  ) AS o
), met AS MATERIALIZED (
  SELECT k.common, l.*
  FROM open_classes AS k
  CROSS JOIN clock AS c
  CROSS JOIN LATERAL (
    SELECT v.ctid AS at, v.share, v.lane, v.pass, v.gates, v.weight, v.priority, v.seq
    FROM pgjobs.lanes AS v
    WHERE v.queue = %(queue)s
      AND v.common = k.common
      AND v.pass >= k.floor
      AND v.shut_until IS NULL
    ORDER BY v.pass, v.lane
    LIMIT c.room
  ) AS l
  WHERE k.is_open
), visited AS MATERIALIZED (
  SELECT m.*, greatest(m.pass, r.pass) AS start,
         CASE m.share WHEN '' THEN m.lane ELSE m.share END AS key,
         (SELECT pg_catalog.count(*) FROM met) AS lanes
  FROM met AS m
  CROSS JOIN round AS r
  -- One row, which the planner takes for a thousand. It expects too few here otherwise, and compares each with each.
  CROSS JOIN LATERAL pg_catalog.generate_series(1, least(1, r.turn + 1)::integer) AS one (n)
  ORDER BY greatest(m.pass, r.pass), m.pass, m.lane
  LIMIT (SELECT c.room FROM clock AS c)
), own_gates AS MATERIALIZED (
  SELECT w.gate, f.flow, f.state, s.turn AS seen, g.gate AS held,
         CASE WHEN (f.flow).period IS NULL THEN (f.flow).amount - coalesce(h.running, 0)
              WHEN (f.flow).algorithm = 'bucket' THEN pg_catalog.floor(
                coalesce((f.flow).burst, (f.flow).amount)::double precision
                - least(greatest(coalesce((g.gate).full_at, 0) - c.now, 0) * (f.flow).amount::double precision
                        / (f.flow).period, 1e9::double precision)
                + 1e-6::double precision)::bigint
              ELSE (f.flow).amount - (
                SELECT coalesce(pg_catalog.sum(u.count), 0)
                FROM unnest((g.gate).times, (g.gate).counts) AS u (at, count)
                WHERE u.at > c.now - (f.flow).period
                  AND u.at < c.now + (f.flow).period * 1.02::double precision)::bigint
         END AS free,
         h.jobs, h.attempts
  FROM (
    SELECT DISTINCT t.gate
    FROM visited AS v
    CROSS JOIN LATERAL pg_catalog.unnest(v.gates) AS t (gate)
    WHERE pg_catalog.strpos(t.gate, '=') > 0
  ) AS w
  CROSS JOIN clock AS c
  CROSS JOIN LATERAL (
    SELECT o AS flow, w.gate || CASE o.scope WHEN 'worker' THEN '@' || %(node)s::text ELSE '' END AS state
    FROM pgjobs.flows AS o
    WHERE o.flow = pg_catalog.split_part(w.gate, '=', 1)
    ORDER BY o.source DESC
    LIMIT 1
  ) AS f
  LEFT JOIN LATERAL (
    SELECT v.turn FROM pgjobs.gates AS v WHERE v.gate = f.state ORDER BY v.turn DESC LIMIT 1
  ) AS s ON true
  LEFT JOIN LATERAL (
    SELECT v AS gate FROM pgjobs.gates AS v WHERE v.gate = f.state ORDER BY v.turn DESC LIMIT 1
    FOR NO KEY UPDATE SKIP LOCKED
  ) AS g ON true
  LEFT JOIN LATERAL (
    SELECT pg_catalog.count(*) AS running, pg_catalog.array_agg(u.job) AS jobs,
           pg_catalog.array_agg(u.attempt) AS attempts
    FROM unnest((g.gate).jobs, (g.gate).attempts) AS u (job, attempt)
    WHERE (f.flow).period IS NULL
      AND ((g.gate).turn <> s.turn OR u.attempt = (
        SELECT j.attempt FROM pgjobs.jobs AS j WHERE j.id = u.job AND j.claimed_by IS NOT NULL))
  ) AS h ON true
  WHERE (f.flow).amount IS NOT NULL
), gates AS MATERIALIZED (
  SELECT *, CASE WHEN (g.flow).period IS NULL THEN NULL
                 WHEN (g.flow).algorithm = 'bucket' THEN coalesce((g.flow).burst, (g.flow).amount)
                 ELSE (g.flow).amount END AS most
  FROM (SELECT * FROM common_gates UNION ALL SELECT * FROM own_gates) AS g
), passing AS MATERIALIZED (
  -- Which gates each lane that is looked at has. Each gate is met once, and not once for each lane.
  SELECT t.lane, g.gate, g.free, g.most, pg_catalog.strpos(g.gate, '=') > 0 AS is_own
  FROM (
    SELECT v.lane, pg_catalog.unnest(v.gates) AS gate
    FROM visited AS v
    OFFSET 0
  ) AS t
  JOIN gates AS g ON g.gate = t.gate
), shut AS MATERIALIZED (
  -- NULL where a gate is locked, or has no row.
  SELECT p.lane,
         CASE WHEN pg_catalog.bool_and((g.held).turn IS NOT NULL)
              THEN pg_catalog.max(CASE WHEN g.free > 0 THEN 0
                                       ELSE pgjobs.gate_opens(g.flow, g.held, 1, c.now) END) END AS opens
  FROM passing AS p
  JOIN gates AS g ON g.gate = p.gate
  CROSS JOIN clock AS c
  WHERE p.is_own
  GROUP BY p.lane
  HAVING pg_catalog.bool_or((g.held).turn IS NULL OR g.free <= 0)
), shares AS MATERIALIZED (
  SELECT v.key, pg_catalog.min(v.start) AS start, pg_catalog.max(v.weight) AS weight
  FROM visited AS v
  WHERE v.lane NOT IN (SELECT s.lane FROM shut AS s)
  GROUP BY v.key
), turns AS MATERIALIZED (
  SELECT t.key, pg_catalog.count(*) AS jobs
  FROM (
    SELECT s.key
    FROM shares AS s
    CROSS JOIN clock AS c
    CROSS JOIN (
      SELECT CASE WHEN pg_catalog.count(*) >= (SELECT c.room FROM clock AS c) THEN pg_catalog.max(e.start)
                  ELSE pg_catalog.max(e.start)
                       + (SELECT c.room FROM clock AS c)::double precision / pg_catalog.sum(e.weight) END AS last
      FROM shares AS e
    ) AS z
    CROSS JOIN LATERAL pg_catalog.generate_series(
      0, least(c.room - 1, pg_catalog.floor((z.last - s.start) * s.weight)::bigint)::integer) AS k (n)
    ORDER BY s.start + k.n::double precision / s.weight, s.key
    LIMIT (SELECT c.room FROM clock AS c)
  ) AS t
  GROUP BY t.key
), quotas AS MATERIALIZED (
  -- How many jobs each lane may give; in the order of the turns, so that no more lanes are read than are needed.
  SELECT v.lane, v.key, v.start, v.weight, v.pass, v.priority, v.seq, v.share <> '' AS is_fair,
         CASE WHEN v.share <> '' THEN coalesce((SELECT t.jobs FROM turns AS t WHERE t.key = v.key), 0)
              ELSE greatest(8, (c.room + v.lanes - 1) / v.lanes) END AS jobs
  FROM visited AS v
  CROSS JOIN clock AS c
  WHERE v.lane NOT IN (SELECT x.lane FROM shut AS x)
  ORDER BY v.start, v.pass, v.lane
), offered AS MATERIALIZED (
  SELECT v.lane, v.key, v.start, v.weight, v.pass, v.jobs, j.at, j.rank, j.seq, j.cost
  FROM quotas AS v
  CROSS JOIN clock AS c
  CROSS JOIN LATERAL (
    SELECT p.at, p.priority::double precision AS rank, p.seq, p.cost
    FROM (
      SELECT o.ctid AS at, o.priority, o.seq, coalesce(o.cost, 1) AS cost
      FROM pgjobs.jobs AS o
      WHERE c.ageing IS NULL
        AND o.queue = %(queue)s
        AND (o.lane, o.priority, o.seq) >= (v.lane, v.priority, v.seq)
        AND o.lane <= v.lane
        AND o.finished_at IS NULL
        AND o.due_at IS NULL
        AND o.claimed_by IS NULL
      ORDER BY o.lane, o.priority, o.seq
      LIMIT v.jobs
      FOR NO KEY UPDATE SKIP LOCKED
    ) AS p
    UNION ALL
    -- Where age counts: the first of each rank, and of these the most urgent by rank and age.
    SELECT a.at, a.rank, a.seq, a.cost
    FROM (
      SELECT e.at, e.seq, e.cost,
             e.priority::double precision
             - extract(epoch FROM pg_catalog.now() - greatest(least(e.due, pg_catalog.now()), '0001-01-03'))
               ::double precision / greatest(c.ageing, 1e-6::double precision) AS rank
      FROM (
        WITH RECURSIVE ranks (priority) AS (
          SELECT v.priority::integer WHERE c.ageing IS NOT NULL
          UNION ALL
          SELECT n.priority
          FROM ranks AS k
          CROSS JOIN LATERAL (
            SELECT o.priority::integer AS priority
            FROM pgjobs.jobs AS o
            WHERE o.queue = %(queue)s
              AND (o.lane, o.priority, o.seq) >= (v.lane, (k.priority + 1)::smallint, -9223372036854775808)
              AND o.lane <= v.lane
              AND o.finished_at IS NULL
              AND o.due_at IS NULL
            ORDER BY o.lane, o.priority, o.seq
            LIMIT 1
          ) AS n
        )
        SELECT f.at, f.priority, f.seq, f.cost, f.due
        FROM ranks AS k
        CROSS JOIN LATERAL (
          SELECT o.ctid AS at, o.priority, o.seq, coalesce(o.cost, 1) AS cost, o.scheduled_at AS due
          FROM pgjobs.jobs AS o
          WHERE o.queue = %(queue)s
            AND (o.lane, o.priority, o.seq) >= (
              v.lane, k.priority::smallint,
              CASE WHEN k.priority = v.priority THEN v.seq ELSE -9223372036854775808 END)
            AND o.lane <= v.lane
            AND o.priority <= k.priority
            AND o.finished_at IS NULL
            AND o.due_at IS NULL
            AND o.claimed_by IS NULL
          ORDER BY o.lane, o.priority, o.seq
          LIMIT v.jobs
          FOR NO KEY UPDATE SKIP LOCKED
        ) AS f
      ) AS e
      ORDER BY rank, e.seq
      LIMIT v.jobs
    ) AS a
  ) AS j
  LIMIT (SELECT CASE WHEN pg_catalog.bool_or(q.is_fair) THEN NULL ELSE (SELECT c.room FROM clock AS c) END
         FROM quotas AS q)
), ordered AS MATERIALIZED (
  SELECT o.at, o.lane, o.cost,
         pg_catalog.row_number() OVER (
           ORDER BY o.start + CASE WHEN o.lane = o.key THEN 0 ELSE (o.n - 1)::double precision / o.weight END, o.pass, o.key, o.n)
           AS place
  FROM (
    SELECT f.*, pg_catalog.row_number() OVER (PARTITION BY f.key ORDER BY f.rank, f.seq) AS n
    FROM offered AS f
  ) AS o
  WHERE o.n <= o.jobs
), let_by_own AS MATERIALIZED (
  SELECT o.at, o.lane, o.cost, o.place
  FROM ordered AS o
  LEFT JOIN (
    SELECT s.at, pg_catalog.bool_and(s.taken::bigint <= s.free) AS is_let
    FROM (
      SELECT o.at, p.free, pg_catalog.sum(CASE WHEN p.most IS NULL THEN 1 ELSE least(o.cost, p.most) END)
               OVER (PARTITION BY p.gate ORDER BY o.place) AS taken
      FROM ordered AS o
      JOIN passing AS p ON p.lane = o.lane
      WHERE p.is_own
    ) AS s
    GROUP BY s.at
  ) AS t ON t.at = o.at
  WHERE t.is_let IS NOT FALSE
), let AS MATERIALIZED (
  SELECT o.at
  FROM let_by_own AS o
  LEFT JOIN (
    SELECT s.at, pg_catalog.bool_and(s.taken::bigint <= s.free) AS is_let
    FROM (
      SELECT o.at, p.free, pg_catalog.sum(CASE WHEN p.most IS NULL THEN 1 ELSE least(o.cost, p.most) END)
               OVER (PARTITION BY p.gate ORDER BY o.place) AS taken
      FROM let_by_own AS o
      JOIN passing AS p ON p.lane = o.lane
      WHERE NOT p.is_own
    ) AS s
    GROUP BY s.at
  ) AS t ON t.at = o.at
  WHERE t.is_let IS NOT FALSE
  ORDER BY o.place
  LIMIT (SELECT c.room FROM clock AS c)
), claimed AS (
  UPDATE pgjobs.jobs AS j
  SET state = 'executing',
      attempt = least(j.attempt, 2147483646) + 1,
      max_attempts = greatest(j.max_attempts, least(j.attempt, 2147483646) + 1),
      claimed_by = %(node)s::uuid,
      attempted_at = pg_catalog.now(),
      attempted_by = %(name)s,
      acks_late = %(late)s::text[] IS NULL OR j.task = ANY (%(late)s::text[])
  WHERE j.ctid = ANY (ARRAY(SELECT l.at FROM let AS l))
  RETURNING j.id, j.attempt, j.max_attempts, j.queue, j.priority, j.seq, j.redelivered, j.message,
            j.body, j.lane, j.cost,
            CASE j.expires_at
              WHEN 'infinity' THEN NULL
              WHEN '-infinity' THEN 0
              ELSE extract(epoch FROM j.expires_at - pg_catalog.now())
            END::double precision AS expires_in
), slotted AS (
  INSERT INTO pgjobs.slots (queue, job, attempt)
  SELECT c.queue, c.id, c.attempt
  FROM claimed AS c
  WHERE EXISTS (
    SELECT FROM pgjobs.limits AS l WHERE l.queue = %(queue)s AND l.concurrency IS NOT NULL)
  ON CONFLICT (queue, job) DO UPDATE SET attempt = excluded.attempt
), spent AS (
  UPDATE pgjobs.gates AS g
  SET turn = g.turn + 1,
      used_at = pg_catalog.now(),
      times = CASE WHEN (u.flow).period IS NULL OR (u.flow).algorithm = 'bucket' THEN '{}' ELSE n.times END,
      counts = CASE WHEN (u.flow).period IS NULL OR (u.flow).algorithm = 'bucket' THEN '{}' ELSE n.counts END,
      full_at = CASE WHEN (u.flow).algorithm = 'bucket' AND (u.flow).period IS NOT NULL
                     THEN greatest(coalesce((u.held).full_at, 0), u.now)
                          + u.cost::double precision * (u.flow).period / (u.flow).amount::double precision END,
      jobs = CASE WHEN (u.flow).period IS NULL THEN n.jobs ELSE '{}' END,
      attempts = CASE WHEN (u.flow).period IS NULL THEN n.attempts ELSE '{}' END
  FROM (
    SELECT x.gate, x.flow, x.state, x.seen, x.held, x.jobs, x.attempts, c.now, t.cost, t.ids, t.numbers
    FROM (
      SELECT p.gate, pg_catalog.sum(CASE WHEN p.most IS NULL THEN 1 ELSE least(coalesce(d.cost, 1), p.most) END)
               AS cost,
             pg_catalog.array_agg(d.id) AS ids, pg_catalog.array_agg(d.attempt) AS numbers
      FROM claimed AS d
      JOIN passing AS p ON p.lane = d.lane
      GROUP BY p.gate
    ) AS t
    JOIN gates AS x ON x.gate = t.gate
    CROSS JOIN clock AS c
  ) AS u
  CROSS JOIN LATERAL (
    SELECT pg_catalog.array_agg(w.at ORDER BY w.at) FILTER (WHERE w.at IS NOT NULL) AS times,
           pg_catalog.array_agg(w.count ORDER BY w.at) FILTER (WHERE w.at IS NOT NULL) AS counts,
           (SELECT pg_catalog.array_agg(m.job ORDER BY m.job) FROM (
              SELECT e.job FROM unnest(u.jobs, u.attempts) AS e (job, attempt) WHERE e.job <> ALL (u.ids)
              UNION ALL SELECT pg_catalog.unnest(u.ids)) AS m) AS jobs,
           (SELECT pg_catalog.array_agg(m.attempt ORDER BY m.job) FROM (
              SELECT e.job, e.attempt FROM unnest(u.jobs, u.attempts) AS e (job, attempt)
              WHERE e.job <> ALL (u.ids)
              UNION ALL SELECT i.job, i.attempt FROM unnest(u.ids, u.numbers) AS i (job, attempt)) AS m)
             AS attempts
    FROM (
      SELECT y.at, pg_catalog.sum(y.count)::integer AS count
      FROM (
        SELECT e.at, e.count
        FROM unnest((u.held).times, (u.held).counts) AS e (at, count)
        WHERE e.at > u.now - (u.flow).period
        UNION ALL
        -- Rounded up: never free too early.
        SELECT pg_catalog.ceil(u.now * 100::double precision / (u.flow).period) * (u.flow).period / 100::double precision, u.cost::integer
      ) AS y
      GROUP BY y.at
    ) AS w
  ) AS n
  WHERE g.gate = u.state
    AND g.turn >= u.seen
), looked AS MATERIALIZED (
  -- What became of each lane: its next job, and its turn.
  SELECT v.at, v.share, v.lane, v.key, v.pass, v.start, v.weight, v.priority, v.seq,
         s.lane IS NOT NULL AS is_shut, s.opens,
         h.priority AS next_priority, h.seq AS next_seq, h.cost AS next_cost,
         coalesce(t.jobs, 0) AS taken
  FROM visited AS v
  LEFT JOIN shut AS s ON s.lane = v.lane
  LEFT JOIN (
    SELECT c.lane, pg_catalog.count(*) AS jobs, pg_catalog.array_agg(c.id) AS ids FROM claimed AS c GROUP BY c.lane
  ) AS t ON t.lane = v.lane
  LEFT JOIN LATERAL (
    SELECT o.priority, o.seq, coalesce(o.cost, 1) AS cost
    FROM pgjobs.jobs AS o
    WHERE o.queue = %(queue)s
      AND (o.lane, o.priority, o.seq) >= (v.lane, v.priority, v.seq)
      AND o.lane <= v.lane
      AND o.finished_at IS NULL
      AND o.due_at IS NULL
      AND o.claimed_by IS NULL
      AND o.id <> ALL (coalesce(t.ids, '{}'))
    ORDER BY o.lane, o.priority, o.seq
    LIMIT 1
  ) AS h ON s.lane IS NULL
), passed AS MATERIALIZED (
  SELECT l.key, pg_catalog.min(l.start) + pg_catalog.sum(l.taken)::double precision / pg_catalog.max(l.weight) AS pass
  FROM looked AS l
  GROUP BY l.key
  HAVING pg_catalog.sum(l.taken)::bigint > 0
), removed AS (
  DELETE FROM pgjobs.lanes AS l
  WHERE l.ctid = ANY (ARRAY(
    SELECT k.at FROM looked AS k WHERE NOT k.is_shut AND k.next_seq IS NULL))
  RETURNING l.lane
), waits AS MATERIALIZED (
  -- Until when each lane is shut: a gate of its own is, or has too little for its next job.
  SELECT k.lane,
         CASE WHEN k.is_shut THEN k.opens
              WHEN k.taken = 0 AND k.next_seq IS NOT NULL THEN (
                SELECT pg_catalog.max((
                  SELECT pgjobs.gate_opens(g.flow, g.held, least(k.next_cost, g.most), c.now)
                  FROM gates AS g
                  CROSS JOIN clock AS c
                  WHERE g.gate = p.gate))
                FROM passing AS p
                WHERE p.lane = k.lane
                  AND p.is_own
                  AND least(k.next_cost, p.most) > p.free)
         END AS opens
  FROM looked AS k
), turned AS (
  UPDATE pgjobs.lanes AS l
  SET pass = coalesce(d.pass, l.pass),
      priority = coalesce(d.next_priority, l.priority),
      seq = coalesce(d.next_seq, l.seq),
      shut_until = CASE WHEN d.opens = 'infinity' THEN 'infinity'
                        WHEN d.opens IS NOT NULL
                          THEN greatest(pg_catalog.to_timestamp(d.opens), pg_catalog.now(), r.reopened)
                        ELSE l.shut_until END
  FROM round AS r, (
    SELECT k.at, p.pass, k.next_priority, k.next_seq, w.opens
    FROM looked AS k
    JOIN waits AS w ON w.lane = k.lane
    LEFT JOIN passed AS p ON p.key = k.key
    WHERE (k.is_shut OR k.next_seq IS NOT NULL)
      AND (p.pass IS NOT NULL OR w.opens IS NOT NULL
           OR (k.next_priority, k.next_seq) <> (k.priority, k.seq))
    UNION ALL
    -- The other lanes of the shares that were served.
    SELECT o.at, p.pass, NULL, NULL, NULL
    FROM passed AS p
    CROSS JOIN LATERAL (
      SELECT e.ctid AS at, e.lane
      FROM pgjobs.lanes AS e
      WHERE e.queue = %(queue)s
        AND e.share = p.key
        AND e.pass < p.pass
    ) AS o
    WHERE pg_catalog.starts_with(p.key, 'share=')
      AND o.lane NOT IN (SELECT k.lane FROM looked AS k)
  ) AS d
  WHERE l.ctid = d.at
), fate AS MATERIALIZED (
  SELECT (SELECT pg_catalog.count(*) FROM claimed) AS taken,
         (SELECT pg_catalog.count(*) FROM visited) AS visited,
         (SELECT pg_catalog.count(*) FROM removed) AS removed,
         (SELECT pg_catalog.count(*) FROM waits AS w WHERE w.opens IS NOT NULL) AS shut,
         (SELECT pg_catalog.min(k.start) FROM looked AS k WHERE k.taken > 0) AS pass,
         -- The first of a class that was looked at; none of one in which nothing was found.
         f.commons, f.floors
  FROM (
    SELECT pg_catalog.array_agg(g.common) AS commons, pg_catalog.array_agg(g.floor) AS floors
    FROM (
      SELECT k.common, CASE WHEN k.is_open THEN m.floor ELSE k.floor END AS floor
      FROM open_classes AS k
      LEFT JOIN (SELECT m.common, pg_catalog.min(m.pass) AS floor FROM met AS m GROUP BY m.common) AS m
        ON m.common = k.common
    ) AS g
    WHERE g.floor IS NOT NULL
  ) AS f
), advanced AS (
  UPDATE pgjobs.rounds AS o
  SET turn = o.turn + 1,
      pass = greatest(o.pass, f.pass),
      commons = coalesce(f.commons, '{}'),
      floors = coalesce(f.floors, '{}')
  FROM fate AS f, round AS r, clock AS c
  WHERE o.queue = %(queue)s
    AND o.turn = r.turn
    AND c.room > 0
    AND (f.commons::text IS DISTINCT FROM r.commons::text OR f.floors::text IS DISTINCT FROM r.floors::text OR f.pass > r.pass)
)
SELECT c.id, c.attempt, c.max_attempts, c.queue, c.priority, c.seq, c.redelivered, c.message, c.body,
       c.expires_in
FROM claimed AS c
UNION ALL
SELECT NULL, f.taken::integer, f.visited::integer,
       -- Lanes wait for the end of a job.
       CASE WHEN EXISTS (SELECT FROM waits AS w WHERE w.opens = 'infinity')
              OR EXISTS (SELECT FROM open_classes AS k WHERE k.opens = 'infinity')
              OR EXISTS (SELECT FROM pgjobs.lanes AS l WHERE l.queue = %(queue)s AND l.shut_until = 'infinity')
            THEN 'jobs' END,
       -- There are lanes at all; and how many are open that were looked at.
       CASE WHEN EXISTS (SELECT FROM pgjobs.lanes AS l WHERE l.queue = %(queue)s) THEN 1 ELSE 0 END::smallint,
       f.visited - f.removed - f.shut,
       -- Something was done, and open lanes are left.
       f.taken + f.removed + f.shut > 0 AND f.visited > f.removed + f.shut OR f.visited >= c.room AND c.room > 0
         AND f.taken + f.removed + f.shut > 0,
       (SELECT pg_catalog.string_agg(DISTINCT g.state, E'\n') FROM gates AS g WHERE g.seen IS NULL),
       NULL,
       (SELECT pg_catalog.min(t.opens)
        FROM (
          SELECT w.opens - c.now AS opens FROM waits AS w
          UNION ALL
          SELECT k.opens - c.now FROM open_classes AS k WHERE NOT k.is_open
          UNION ALL
          SELECT extract(epoch FROM n.shut_until - pg_catalog.now())::double precision
          FROM (
            SELECT l.shut_until
            FROM pgjobs.lanes AS l
            WHERE l.queue = %(queue)s
              AND l.shut_until IS NOT NULL
              AND l.shut_until >= (SELECT r.reopened FROM round AS r)
            ORDER BY l.shut_until
            LIMIT 1
          ) AS n
          WHERE n.shut_until < 'infinity'
        ) AS t
        WHERE t.opens < 'infinity')
FROM fate AS f
CROSS JOIN clock AS c
