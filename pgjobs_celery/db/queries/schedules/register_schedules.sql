-- Register the entries of a program's beat_schedule. An entry that was made at run time under the same
-- name stays as it is. Where the schedule differs from before, the next tick is computed anew;
-- otherwise it stays, and so does a pause. An unchanged entry is not written: 10,000 of them would be,
-- with each start.
INSERT INTO pgjobs.schedules AS s
  (app, name, is_configured, task, args, kwargs, options, schedule, definition, missed, missed_limit,
   next_run_at)
SELECT %(app)s, u.name, true, u.task, u.args, u.kwargs, u.options, u.schedule::jsonb, u.definition,
       u.missed, u.missed_limit, u.next_run_at
FROM unnest(%(names)s::text[], %(tasks)s::text[], %(args)s::text[], %(kwargs)s::text[],
            %(options)s::text[], %(schedules)s::text[], %(definitions)s::text[],
            %(missed)s::text[], %(missed_limits)s::integer[], %(nexts)s::timestamptz[])
  AS u (name, task, args, kwargs, options, schedule, definition, missed, missed_limit, next_run_at)
ORDER BY u.name
ON CONFLICT (app, name) DO UPDATE
SET task = excluded.task,
    args = excluded.args,
    kwargs = excluded.kwargs,
    options = excluded.options,
    schedule = excluded.schedule,
    definition = excluded.definition,
    missed = excluded.missed,
    missed_limit = excluded.missed_limit,
    next_run_at = CASE WHEN s.definition = excluded.definition THEN s.next_run_at
                       ELSE excluded.next_run_at END,
    version = excluded.version
WHERE s.is_configured
  AND (s.task, s.args, s.kwargs, s.options, s.schedule, s.definition, s.missed, s.missed_limit)
      IS DISTINCT FROM
      (excluded.task, excluded.args, excluded.kwargs, excluded.options, excluded.schedule,
       excluded.definition, excluded.missed, excluded.missed_limit)
RETURNING s.name
