-- Entries by name (NULL: all), each with the state of the job that it published last. Times are given
-- only where Python can hold them, and otherwise the names of their columns: a row that was written by
-- hand must not hide the others.
SELECT s.name, s.is_configured, s.task, s.args, s.kwargs, s.options, s.schedule::text, s.definition,
       s.missed, s.missed_limit,
       CASE WHEN s.next_run_at BETWEEN t.first AND t.last THEN s.next_run_at END,
       CASE WHEN s.last_run_at BETWEEN t.first AND t.last THEN s.last_run_at END,
       s.last_task_id, s.total_run_count,
       CASE WHEN s.paused_at BETWEEN t.first AND t.last THEN s.paused_at END,
       s.version, j.state, s.paused_at IS NOT NULL,
       ARRAY(
         SELECT c.name
         FROM (VALUES ('next_run_at', s.next_run_at), ('last_run_at', s.last_run_at),
                      ('paused_at', s.paused_at)) AS c (name, at)
         WHERE c.at NOT BETWEEN t.first AND t.last
       )
FROM pgjobs.schedules AS s
CROSS JOIN (SELECT timestamptz '0001-01-03' AS first, timestamptz '9999-12-29' AS last) AS t
LEFT JOIN pgjobs.jobs AS j ON j.task_id = s.last_task_id
WHERE s.app = %(app)s
  AND (%(names)s::text[] IS NULL OR s.name = ANY (%(names)s::text[]))
ORDER BY s.name
