-- Record a run that was asked for, beside the ticks.
UPDATE pgjobs.schedules
SET last_run_at = pg_catalog.clock_timestamp(),
    last_task_id = %(task_id)s,
    total_run_count = least(total_run_count::numeric + 1::numeric, 9223372036854775807)::bigint
WHERE app = %(app)s AND name = %(name)s
RETURNING name
