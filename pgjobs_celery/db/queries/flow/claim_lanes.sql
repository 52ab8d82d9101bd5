-- Take jobs from the open lanes of a queue in turn; under its lock, after free_slots, absorb_arrivals and
-- reopen_lanes in the same transaction. Returns the claims as claim_jobs does, then a row without an id: how many
-- lanes it has looked at, whether another look may find more at once, in how many seconds a gate opens, and
-- the gates that have no row yet (make_gates).
-- Never more than a gate allows: its row is locked, and read as it is then, whoever has written it. A gate that
-- another claim has locked counts as shut, so nothing is waited for. A start is counted at the time at which this
-- statement begins, which is its attempted_at: the transaction may have waited for the queue's lock.
-- Turns are those of start-time fair queueing: each lane has the round of its next turn, a job taken puts it
-- 1/weight rounds further, and those with the lowest round come first. Lanes of one share share their round.
-- In a queue that is not fair a lane gives up to 8 jobs in its turn, more where few lanes are open.
-- It goes in three steps: which lanes have their turn and what their gates let pass (clock to quotas), which jobs
-- that is (offered to spent), and what becomes of the lanes (looked to advanced).
WITH clock AS MATERIALIZED (
  -- Nothing is taken for a worker that is past its lease; nor more than it and the queue have room for.
  SELECT extract(epoch FROM pg_catalog.statement_timestamp())::double precision AS now, l.ageing,
         greatest(0, least(%(limit)s::bigint, %(places)s::bigint, CASE
           WHEN l.paused_at IS NOT NULL THEN 0
           WHEN l.concurrency IS NOT NULL
             THEN l.concurrency - (SELECT pg_catalog.count(*) FROM pgjobs.slots AS t WHERE t.queue = l.queue)
         END)) AS room
  FROM pgjobs.nodes AS n
  LEFT JOIN pgjobs.limits AS l ON l.queue = %(queue)s
  WHERE n.node = %(node)s::uuid
    AND n.heartbeat_at > pg_catalog.statement_timestamp() - n.lease * interval '1 second'
  FOR KEY SHARE OF n
), round AS MATERIALIZED (
  -- The time of the queue, its classes (lanes with the same common gates), and which of these are open.
  SELECT r.turn, r.pass, r.reopened, r.commons, r.floors, r.opens
  FROM pgjobs.rounds AS r
  WHERE r.queue = %(queue)s
  ORDER BY r.turn DESC
  LIMIT 1
), met AS MATERIALIZED (
  -- The first open lanes of each open class: not those of a class that is shut, and none with a gate of its own
  -- that is. So a look costs what it takes, and not what waits.
  SELECT k.common, l.*
  FROM clock AS c
  CROSS JOIN round AS r
  CROSS JOIN LATERAL unnest(r.commons, r.floors, r.opens) AS k (common, floor, opens)
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
  WHERE k.opens <= c.now
), visited AS MATERIALIZED (
  -- Those of all classes whose turn comes first.
  SELECT m.*, greatest(m.pass, r.pass) AS start,
         CASE m.share WHEN '' THEN m.lane ELSE m.share END AS key,
         (SELECT pg_catalog.count(*) FROM met) AS lanes
  FROM met AS m
  CROSS JOIN round AS r
  -- One row, which the planner takes for a thousand. It expects too few here otherwise, and compares each with each.
  CROSS JOIN LATERAL pg_catalog.generate_series(1, least(1, r.turn + 1)::integer) AS one (n)
  ORDER BY greatest(m.pass, r.pass), m.pass, m.lane
  LIMIT (SELECT c.room FROM clock AS c)
), gates AS MATERIALIZED (
  -- The one look at their gates: each is locked, and met once, whether one lane has it or all. A job takes as
  -- many of its tokens as it costs, from "fewest" to "most"; of places it takes one.
  SELECT w.gate, pg_catalog.strpos(w.gate, '=') > 0 AS is_own, f.flow, f.state, s.turn AS seen, g.gate AS held,
         h.jobs, h.attempts,
         CASE WHEN (f.flow).period IS NULL THEN 1 ELSE 0 END AS fewest,
         CASE WHEN (f.flow).period IS NULL THEN 1 ELSE f.size END AS most,
         CASE WHEN (g.gate).turn IS NULL THEN 0
              WHEN (f.flow).period IS NULL THEN f.size - h.running
              WHEN (f.flow).algorithm = 'bucket' THEN pg_catalog.floor(
                f.size::double precision
                - least(greatest(coalesce((g.gate).full_at, 0) - c.now, 0) * (f.flow).amount::double precision
                        / (f.flow).period, 1e9::double precision)
                + 1e-6::double precision)::bigint
              -- With what lies ahead: a transaction that began before may take after one that began later, and
              -- no period that holds both may hold more. What lies further ahead is of a clock that was put back.
              ELSE f.size - (
                SELECT coalesce(pg_catalog.sum(u.count), 0)
                FROM unnest((g.gate).times, (g.gate).counts) AS u (at, count)
                WHERE u.at > c.now - (f.flow).period
                  AND u.at < c.now + (f.flow).period * 1.02::double precision)::bigint
         END AS free
  FROM (
    SELECT DISTINCT t.gate
    FROM visited AS v
    CROSS JOIN LATERAL pg_catalog.unnest(v.gates) AS t (gate)
  ) AS w
  CROSS JOIN clock AS c
  CROSS JOIN LATERAL (
    SELECT o AS flow, w.gate || CASE o.scope WHEN 'worker' THEN '@' || %(node)s::text ELSE '' END AS state,
           CASE WHEN o.algorithm = 'bucket' AND o.amount > 0 THEN coalesce(o.burst, o.amount) ELSE o.amount END AS size
    FROM pgjobs.flows AS o
    WHERE o.flow = pg_catalog.split_part(w.gate, '=', 1)
    ORDER BY o.source DESC
    LIMIT 1
  ) AS f
  LEFT JOIN LATERAL (
    SELECT v.turn FROM pgjobs.gates AS v WHERE v.gate = f.state ORDER BY v.turn DESC LIMIT 1
  ) AS s ON true
  LEFT JOIN LATERAL (
    SELECT l.gate
    FROM (
      SELECT v AS gate FROM pgjobs.gates AS v WHERE v.gate = f.state ORDER BY v.turn DESC LIMIT 1
      FOR NO KEY UPDATE SKIP LOCKED
    ) AS l
    -- A claim that began later has come before, and has forgotten what counts at the time of this one.
    WHERE ((l.gate).looks_from > c.now AND (l.gate).looks_from < c.now + (f.flow).period * 1.02::double precision)
          IS NOT TRUE
  ) AS g ON true
  LEFT JOIN LATERAL (
    SELECT pg_catalog.count(*) AS running, pg_catalog.array_agg(u.job) AS jobs,
           pg_catalog.array_agg(u.attempt) AS attempts
    FROM unnest((g.gate).jobs, (g.gate).attempts) AS u (job, attempt)
    WHERE (f.flow).period IS NULL
    -- What this statement's snapshot may be too old to know counts as running; what was replaced (no message) does
    -- not: others run for it, perhaps in its place.
      AND ((g.gate).turn <> s.turn OR u.attempt = (
        SELECT j.attempt
        FROM pgjobs.jobs AS j
        WHERE j.id = u.job AND j.claimed_by IS NOT NULL AND j.message IS NOT NULL))
  ) AS h ON true
  WHERE f.size IS NOT NULL
), passing AS MATERIALIZED (
  -- Which gates each lane has.
  SELECT t.lane, g.gate, g.is_own, g.free, g.fewest, g.most
  FROM (
    SELECT v.lane, pg_catalog.unnest(v.gates) AS gate
    FROM visited AS v
    OFFSET 0
  ) AS t
  JOIN gates AS g ON g.gate = t.gate
), shut AS MATERIALIZED (
  -- The lanes with a gate of their own that lets nothing pass, and when it does; NULL where one is locked, or has
  -- no row.
  SELECT p.lane,
         CASE WHEN pg_catalog.bool_and((g.held).turn IS NOT NULL)
              THEN pg_catalog.max(CASE WHEN g.free > 0 THEN 0
                                       ELSE pgjobs.gate_opens(g.flow, g.held, 1, c.now) END) END AS opens
  FROM passing AS p
  JOIN gates AS g ON g.gate = p.gate
  CROSS JOIN clock AS c
  WHERE p.is_own
  GROUP BY p.lane
  HAVING pg_catalog.bool_or(g.free <= 0)
), shares AS MATERIALIZED (
  -- Who takes turns with whom: the lanes of a share together, others each by itself.
  SELECT v.key, pg_catalog.min(v.start) AS start, pg_catalog.max(v.weight) AS weight
  FROM visited AS v
  WHERE v.lane NOT IN (SELECT s.lane FROM shut AS s)
  GROUP BY v.key
), turns AS MATERIALIZED (
  -- How many of the next turns, as many as there is room for, each has.
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
  -- The first jobs of each lane. They are read in an order that jobs_lanes alone has: where the statistics know
  -- nothing, the planner would walk the whole line of the queue for each lane.
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
  -- The order in which they come to their gates.
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
  -- Those that the gates of their own let pass. First: what one of these keeps takes nothing of a common one.
  SELECT o.at, o.lane, o.cost, o.place
  FROM ordered AS o
  WHERE o.at NOT IN (
    SELECT s.at
    FROM (
      SELECT e.at, p.free, pg_catalog.sum(least(greatest(e.cost, p.fewest), p.most))
               OVER (PARTITION BY p.gate ORDER BY e.place) AS taken
      FROM ordered AS e
      JOIN passing AS p ON p.lane = e.lane
      WHERE p.is_own
    ) AS s
    WHERE s.taken::bigint > s.free)
), let AS MATERIALIZED (
  -- Of these, those that the common gates let pass.
  SELECT o.at
  FROM let_by_own AS o
  WHERE o.at NOT IN (
    SELECT s.at
    FROM (
      SELECT e.at, p.free, pg_catalog.sum(least(greatest(e.cost, p.fewest), p.most))
               OVER (PARTITION BY p.gate ORDER BY e.place) AS taken
      FROM let_by_own AS e
      JOIN passing AS p ON p.lane = e.lane
      WHERE NOT p.is_own
    ) AS s
    WHERE s.taken::bigint > s.free)
  ORDER BY o.place
  LIMIT (SELECT c.room FROM clock AS c)
), claimed AS (
  -- As claim_jobs does.
  UPDATE pgjobs.jobs AS j
  SET state = 'executing',
      attempt = least(j.attempt, 2147483646) + 1,
      max_attempts = greatest(j.max_attempts, least(j.attempt, 2147483646) + 1),
      claimed_by = %(node)s::uuid,
      attempted_at = pg_catalog.statement_timestamp(),
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
  -- The places of a queue that has a limit for all of its jobs.
  INSERT INTO pgjobs.slots (queue, job, attempt)
  SELECT c.queue, c.id, c.attempt
  FROM claimed AS c
  WHERE EXISTS (
    SELECT FROM pgjobs.limits AS l WHERE l.queue = %(queue)s AND l.concurrency IS NOT NULL)
  ON CONFLICT (queue, job) DO UPDATE SET attempt = excluded.attempt
), spent AS (
  -- What the gates have counted. Times are rounded up to a hundredth of the period: never free too early.
  UPDATE pgjobs.gates AS g
  SET turn = g.turn + 1,
      used_at = pg_catalog.now(),
      times = coalesce(n.times, '{}'),
      counts = coalesce(n.counts, '{}'),
      looks_from = greatest(g.looks_from, (
        SELECT pg_catalog.max(e.at) FROM pg_catalog.unnest((u.held).times) AS e (at) WHERE e.at <= u.now - (u.flow).period
      ) + (u.flow).period),
      full_at = CASE WHEN (u.flow).algorithm = 'bucket' AND (u.flow).period IS NOT NULL
                     THEN greatest(coalesce((u.held).full_at, 0), u.now)
                          + u.cost::double precision * (u.flow).period / (u.flow).amount::double precision END,
      jobs = coalesce(r.jobs, '{}'),
      attempts = coalesce(r.attempts, '{}')
  FROM (
    SELECT x.gate, x.flow, x.state, x.seen, x.held, x.jobs, x.attempts, c.now, t.cost, t.ids, t.numbers
    FROM (
      SELECT p.gate, pg_catalog.sum(least(greatest(coalesce(d.cost, 1), p.fewest), p.most)) AS cost,
             pg_catalog.array_agg(d.id) AS ids, pg_catalog.array_agg(d.attempt) AS numbers
      FROM claimed AS d
      JOIN passing AS p ON p.lane = d.lane
      GROUP BY p.gate
    ) AS t
    JOIN gates AS x ON x.gate = t.gate
    CROSS JOIN clock AS c
  ) AS u
  CROSS JOIN LATERAL (
    SELECT pg_catalog.array_agg(w.at ORDER BY w.at) AS times, pg_catalog.array_agg(w.count ORDER BY w.at) AS counts
    FROM (
      SELECT y.at, pg_catalog.sum(y.count)::integer AS count
      FROM (
        SELECT e.at, e.count
        FROM unnest((u.held).times, (u.held).counts) AS e (at, count)
        WHERE e.at > u.now - (u.flow).period
        UNION ALL
        SELECT pg_catalog.ceil(u.now * 100::double precision / (u.flow).period)
               * (u.flow).period / 100::double precision, u.cost::integer
      ) AS y
      WHERE (u.flow).period IS NOT NULL
        AND (u.flow).algorithm <> 'bucket'
      GROUP BY y.at
    ) AS w
  ) AS n
  CROSS JOIN LATERAL (
    SELECT pg_catalog.array_agg(m.job ORDER BY m.job) AS jobs,
           pg_catalog.array_agg(m.attempt ORDER BY m.job) AS attempts
    FROM (
      SELECT e.job, e.attempt FROM unnest(u.jobs, u.attempts) AS e (job, attempt) WHERE e.job <> ALL (u.ids)
      UNION ALL
      SELECT i.job, i.attempt FROM unnest(u.ids, u.numbers) AS i (job, attempt)
    ) AS m
    WHERE (u.flow).period IS NULL
  ) AS r
  WHERE g.gate = u.state
    AND g.turn >= u.seen
), looked AS MATERIALIZED (
  -- What became of each lane: its next job, what it gave, and until when it is shut: a gate of its own is, or has
  -- too little for the next job.
  SELECT v.at, v.share, v.lane, v.key, v.pass, v.start, v.weight, v.priority, v.seq,
         s.lane IS NOT NULL AS is_shut, coalesce(t.jobs, 0) AS taken,
         h.priority AS next_priority, h.seq AS next_seq,
         CASE WHEN s.lane IS NOT NULL THEN s.opens
              WHEN t.jobs IS NULL AND h.seq IS NOT NULL THEN (
                SELECT pg_catalog.max((
                  SELECT pgjobs.gate_opens(g.flow, g.held, least(greatest(h.cost, g.fewest), g.most), c.now)
                  FROM gates AS g
                  CROSS JOIN clock AS c
                  WHERE g.gate = p.gate))
                FROM passing AS p
                WHERE p.lane = v.lane
                  AND p.is_own
                  AND least(greatest(h.cost, p.fewest), p.most) > p.free)
         END AS opens
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
  -- The next turn of those that were served.
  SELECT l.key, pg_catalog.min(l.start) + pg_catalog.sum(l.taken)::double precision / pg_catalog.max(l.weight) AS pass
  FROM looked AS l
  GROUP BY l.key
  HAVING pg_catalog.sum(l.taken)::bigint > 0
), removed AS (
  -- Lanes that are empty: an arrival brings them back.
  DELETE FROM pgjobs.lanes AS l
  WHERE l.ctid = ANY (ARRAY(
    SELECT k.at FROM looked AS k WHERE NOT k.is_shut AND k.next_seq IS NULL))
  RETURNING l.lane
), turned AS (
  -- Where the other lanes stand: their next turn, their next job, and until when they are shut.
  UPDATE pgjobs.lanes AS l
  SET pass = coalesce(d.pass, l.pass),
      priority = coalesce(d.next_priority, l.priority),
      seq = coalesce(d.next_seq, l.seq),
      shut_until = CASE WHEN d.opens = 'infinity' THEN 'infinity'
                        WHEN d.opens IS NOT NULL
                          THEN greatest(pg_catalog.to_timestamp(d.opens), pg_catalog.now(), r.reopened)
                        ELSE l.shut_until END
  FROM round AS r, (
    SELECT k.at, p.pass, k.next_priority, k.next_seq, k.opens
    FROM looked AS k
    LEFT JOIN passed AS p ON p.key = k.key
    WHERE (k.is_shut OR k.next_seq IS NOT NULL)
      AND (p.pass IS NOT NULL OR k.opens IS NOT NULL
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
  -- What is told, and the classes from now on: the floor of one that was looked at is its first lane's turn, and
  -- it is forgotten if it has none.
  SELECT k.taken, k.visited, k.removed, k.shut, k.pass, g.commons, g.floors, g.opens
  FROM (
    SELECT coalesce(pg_catalog.sum(l.taken), 0)::integer AS taken, pg_catalog.count(*)::integer AS visited,
           (SELECT pg_catalog.count(*) FROM removed) AS removed, pg_catalog.count(l.opens) AS shut,
           pg_catalog.min(l.start) FILTER (WHERE l.taken > 0) AS pass
    FROM looked AS l
  ) AS k
  CROSS JOIN (
    SELECT pg_catalog.array_agg(k.common ORDER BY k.common) AS commons,
           pg_catalog.array_agg(coalesce(m.floor, k.floor) ORDER BY k.common) AS floors,
           pg_catalog.array_agg(k.opens ORDER BY k.common) AS opens
    FROM clock AS c
    CROSS JOIN round AS r
    CROSS JOIN LATERAL unnest(r.commons, r.floors, r.opens) AS k (common, floor, opens)
    LEFT JOIN (SELECT m.common, pg_catalog.min(m.pass) AS floor FROM met AS m GROUP BY m.common) AS m
      ON m.common = k.common
    WHERE m.floor IS NOT NULL
       OR k.opens > c.now
  ) AS g
), advanced AS (
  -- Written where something has changed: a look that finds nothing leaves no version behind.
  UPDATE pgjobs.rounds AS o
  SET turn = o.turn + 1,
      pass = greatest(o.pass, f.pass),
      commons = coalesce(f.commons, '{}'),
      floors = coalesce(f.floors, '{}'),
      opens = coalesce(f.opens, '{}')
  FROM fate AS f, round AS r, clock AS c
  WHERE o.queue = %(queue)s
    AND o.turn = r.turn
    AND c.room > 0
    AND (f.floors::text IS DISTINCT FROM r.floors::text OR f.pass > r.pass)
)
SELECT c.id, c.attempt, c.max_attempts, c.queue, c.priority, c.seq, c.redelivered, c.message, c.body,
       c.expires_in
FROM claimed AS c
UNION ALL
SELECT NULL, f.taken, f.visited,
       -- Lanes wait for the end of a job.
       CASE WHEN EXISTS (SELECT FROM looked AS k WHERE k.opens = 'infinity')
              OR EXISTS (SELECT FROM round AS r WHERE 'infinity' = ANY (r.opens))
              OR EXISTS (SELECT FROM pgjobs.lanes AS l WHERE l.queue = %(queue)s AND l.shut_until = 'infinity')
            THEN 'jobs' END,
       -- There are lanes at all; and how many are open that were looked at.
       CASE WHEN EXISTS (SELECT FROM pgjobs.lanes AS l WHERE l.queue = %(queue)s) THEN 1 ELSE 0 END::smallint,
       f.visited - f.removed - f.shut,
       -- Something was done, and open lanes are left, or may be.
       f.taken + f.removed + f.shut > 0 AND (f.visited > f.removed + f.shut OR f.visited >= c.room AND c.room > 0),
       (SELECT pg_catalog.string_agg(DISTINCT g.state, E'\n') FROM gates AS g WHERE g.seen IS NULL),
       NULL,
       (SELECT pg_catalog.min(t.opens) - c.now
        FROM (
          SELECT k.opens FROM looked AS k
          UNION ALL
          SELECT k.opens FROM round AS r CROSS JOIN LATERAL pg_catalog.unnest(r.opens) AS k (opens) WHERE k.opens > c.now
          UNION ALL
          SELECT extract(epoch FROM n.shut_until)::double precision
          FROM (
            SELECT l.shut_until
            FROM pgjobs.lanes AS l
            WHERE l.queue = %(queue)s
              AND l.shut_until IS NOT NULL
              AND l.shut_until >= (SELECT r.reopened FROM round AS r)
            ORDER BY l.shut_until
            LIMIT 1
          ) AS n
        ) AS t
        WHERE t.opens < 'infinity')
FROM fate AS f
CROSS JOIN clock AS c
