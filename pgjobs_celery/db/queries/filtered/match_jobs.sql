-- The filters (pgjobs_celery.control.filters) for statements that act on the jobs found: this is put in
-- front of them as the relation matched. A filter that is not given is NULL.
-- Planned anew for each call (plan_anew), never pinned: only then do the NULLs fold away, and the rest
-- can use an index. The state implies whether finished_at and due_at are set; is_finished and is_due
-- repeat it, because the planner knows the partial indexes by these columns. An unfinished job is in
-- one of two indexes: both are named, or the statement would read the whole table.
-- So is a root in two: what has another job's id there, and what has its own.
-- Pages go by id and never by OFFSET, so that no row is met twice; newest NULL means no order at all.
SELECT j.id, j.state
FROM pgjobs.jobs AS j
WHERE (%(after)s::bigint IS NULL OR j.id > %(after)s::bigint)
  AND (%(until)s::bigint IS NULL OR j.id <= %(until)s::bigint)
  AND (%(id)s::text[] IS NULL OR j.task_id = ANY (%(id)s::text[]))
  AND (%(task)s::text[] IS NULL OR j.task = ANY (%(task)s::text[]))
  AND (%(queue)s::text[] IS NULL OR j.queue = ANY (%(queue)s::text[]))
  AND (%(state)s::text[] IS NULL OR j.state = ANY (%(state)s::text[]))
  AND (%(is_finished)s::boolean IS NOT TRUE OR j.finished_at IS NOT NULL)
  AND (%(is_finished)s::boolean IS NOT FALSE
       OR j.finished_at IS NULL AND (j.due_at IS NULL OR j.due_at IS NOT NULL))
  AND (%(is_due)s::boolean IS NOT TRUE OR j.due_at IS NOT NULL)
  AND (%(is_due)s::boolean IS NOT FALSE OR j.due_at IS NULL)
  AND (%(group)s::text[] IS NULL OR j.group_id = ANY (%(group)s::text[]))
  AND (%(parent)s::text[] IS NULL OR j.parent_id = ANY (%(parent)s::text[]))
  AND (%(root)s::text[] IS NULL
       OR j.root_id = ANY (%(root)s::text[]) AND j.root_id <> j.task_id
       OR j.task_id = ANY (%(root)s::text[]) AND j.root_id = j.task_id)
  AND (%(worker)s::text[] IS NULL OR j.attempted_by = ANY (%(worker)s::text[]))
  AND (%(attempt)s::integer[] IS NULL OR j.attempt = ANY (%(attempt)s::integer[]))
  AND (%(attempt_from)s::integer IS NULL OR j.attempt >= %(attempt_from)s::integer)
  AND (%(attempt_to)s::integer IS NULL OR j.attempt <= %(attempt_to)s::integer)
  AND (%(older_than)s::double precision IS NULL
       OR j.inserted_at < pg_catalog.now() - %(older_than)s::double precision * interval '1 second')
  AND (%(newer_than)s::double precision IS NULL
       OR j.inserted_at > pg_catalog.now() - %(newer_than)s::double precision * interval '1 second')
  AND (%(finished_before)s::double precision IS NULL
       OR j.finished_at < pg_catalog.now() - %(finished_before)s::double precision * interval '1 second')
  AND (%(finished_after)s::double precision IS NULL
       OR j.finished_at > pg_catalog.now() - %(finished_after)s::double precision * interval '1 second')
  AND (%(ended_from)s::timestamptz IS NULL OR j.finished_at >= %(ended_from)s::timestamptz)
  AND (%(ended_to)s::timestamptz IS NULL OR j.finished_at <= %(ended_to)s::timestamptz)
  AND (%(tags)s::text[] IS NULL OR j.tags OPERATOR(pg_catalog.@>) %(tags)s::text[])
  AND (%(meta)s::text IS NULL OR j.meta @> %(meta)s::text::jsonb)
  AND (%(stamps)s::text IS NULL
       OR position('"stamps"' IN j.message) > 0
          AND EXISTS (
            SELECT FROM pg_catalog.jsonb_each(%(stamps)s::text::jsonb) AS w (stamp, any_of)
            CROSS JOIN LATERAL pg_catalog.jsonb_array_elements(w.any_of) AS v (value)
            WHERE pgjobs.body_json(pg_catalog.convert_to(j.message, 'UTF8'))
                    #> ARRAY['headers', 'stamps', w.stamp] @> v.value))
  AND (%(args)s::text IS NULL OR pgjobs.body_json(j.body) -> 0 @> %(args)s::text::jsonb)
  AND (%(kwargs)s::text IS NULL OR pgjobs.body_json(j.body) -> 1 @> %(kwargs)s::text::jsonb)
  AND (%(fingerprint)s::text[] IS NULL OR j.fingerprint = ANY (%(fingerprint)s::text[]))
  AND (%(error)s::text[] IS NULL
       OR j.fingerprint >= %(error_first)s::text
          AND j.fingerprint < %(error_last)s::text
          AND pg_catalog.left(j.fingerprint, -11) = ANY (%(error)s::text[]))
  -- A key is that of each flow which is named, or else of any.
  AND (%(lane)s::text[] IS NULL AND %(key)s::text[] IS NULL
       OR j.lane IS NOT NULL
          AND NOT EXISTS (
            SELECT FROM pg_catalog.unnest(coalesce(%(lane)s::text[], ARRAY[''::text])) AS w (line)
            WHERE NOT EXISTS (
              SELECT FROM pg_catalog.unnest(pg_catalog.string_to_array(j.lane, pg_catalog.chr(10))) AS l (line)
              WHERE w.line IN (''::text, l.line, pg_catalog.split_part(l.line, '='::text, 1))
                AND (%(key)s::text[] IS NULL
                     OR position('='::text IN l.line) > 0
                        AND pg_catalog.substr(l.line, position('='::text IN l.line) + 1)
                            = ANY (%(key)s::text[])))))
ORDER BY CASE WHEN %(newest)s::boolean THEN j.id END DESC,
         CASE WHEN NOT %(newest)s::boolean THEN j.id END
LIMIT %(limit)s::bigint
