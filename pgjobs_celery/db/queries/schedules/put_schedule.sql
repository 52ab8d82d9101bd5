-- Make or change an entry at run time. One of the program's own must not be changed here, and is not
-- returned. The known next tick stays where the schedule is the same as before, and where Python can
-- hold it.
INSERT INTO pgjobs.schedules AS s
  (app, name, task, args, kwargs, options, schedule, definition, missed, missed_limit, next_run_at)
VALUES (%(app)s, %(name)s, %(task)s, %(args)s, %(kwargs)s, %(options)s, %(schedule)s::jsonb,
        %(definition)s, %(missed)s, %(missed_limit)s, %(next_run_at)s::timestamptz)
ON CONFLICT (app, name) DO UPDATE
SET task = excluded.task,
    args = excluded.args,
    kwargs = excluded.kwargs,
    options = excluded.options,
    schedule = excluded.schedule,
    definition = excluded.definition,
    missed = excluded.missed,
    missed_limit = excluded.missed_limit,
    next_run_at = CASE WHEN s.definition = excluded.definition AND NOT %(moves)s
                            AND s.next_run_at BETWEEN '0001-01-03' AND '9999-12-29'
                       THEN s.next_run_at ELSE excluded.next_run_at END,
    version = excluded.version
WHERE NOT s.is_configured AND %(replaces)s
RETURNING s.name
