-- Entries by name (NULL: all), with what became of the job that was published last.
SELECT s.name, s.is_configured, s.task, s.args, s.kwargs, s.options, s.schedule::text, s.definition,
       s.missed, s.missed_limit, s.next_run_at, s.last_run_at, s.last_task_id, s.total_run_count,
       s.paused_at, s.version, j.state
FROM pgjobs.schedules AS s
LEFT JOIN pgjobs.jobs AS j ON j.task_id = s.last_task_id
WHERE s.app = %(app)s
  AND (%(names)s::text[] IS NULL OR s.name = ANY (%(names)s::text[]))
ORDER BY s.name
