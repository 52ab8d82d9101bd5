-- Jobs that may belong to one canvas: those of these ids, what was published below these roots, and the
-- members of these groups; each by its index, and so many of each at most. What began a canvas is its own
-- root, and not in jobs_root. One that is found twice comes twice: to look its row up by its number once it is
-- known would be a join, for which a plan may read all rows.
(SELECT j.id, j.task_id, j.task, j.queue, j.state, j.attempt, j.root_id, j.parent_id, j.group_id,
        j.group_index,
        least(greatest(j.inserted_at, t.first), t.last),
        CASE WHEN j.attempted_at IS NOT NULL
             THEN least(greatest(j.attempted_at, t.first), t.last) END,
        CASE WHEN j.finished_at IS NOT NULL
             THEN least(greatest(j.finished_at, t.first), t.last) END,
        j.superseded_by
 FROM pgjobs.jobs AS j
 CROSS JOIN (SELECT timestamptz '0001-01-03' AS first, timestamptz '9999-12-29' AS last) AS t
 WHERE j.task_id = ANY (ARRAY(SELECT pg_catalog.unnest(%(ids)s::text[])))
 LIMIT %(limit)s::bigint)
UNION ALL
(SELECT j.id, j.task_id, j.task, j.queue, j.state, j.attempt, j.root_id, j.parent_id, j.group_id,
        j.group_index,
        least(greatest(j.inserted_at, t.first), t.last),
        CASE WHEN j.attempted_at IS NOT NULL
             THEN least(greatest(j.attempted_at, t.first), t.last) END,
        CASE WHEN j.finished_at IS NOT NULL
             THEN least(greatest(j.finished_at, t.first), t.last) END,
        j.superseded_by
 FROM pgjobs.jobs AS j
 CROSS JOIN (SELECT timestamptz '0001-01-03' AS first, timestamptz '9999-12-29' AS last) AS t
 WHERE j.root_id = ANY (ARRAY(SELECT pg_catalog.unnest(%(roots)s::text[])))
   AND j.root_id <> j.task_id
 LIMIT %(limit)s::bigint)
UNION ALL
(SELECT j.id, j.task_id, j.task, j.queue, j.state, j.attempt, j.root_id, j.parent_id, j.group_id,
        j.group_index,
        least(greatest(j.inserted_at, t.first), t.last),
        CASE WHEN j.attempted_at IS NOT NULL
             THEN least(greatest(j.attempted_at, t.first), t.last) END,
        CASE WHEN j.finished_at IS NOT NULL
             THEN least(greatest(j.finished_at, t.first), t.last) END,
        j.superseded_by
 FROM pgjobs.jobs AS j
 CROSS JOIN (SELECT timestamptz '0001-01-03' AS first, timestamptz '9999-12-29' AS last) AS t
 WHERE j.group_id = ANY (ARRAY(SELECT pg_catalog.unnest(%(groups)s::text[])))
   AND j.group_index IS NOT NULL
 LIMIT %(limit)s::bigint)
