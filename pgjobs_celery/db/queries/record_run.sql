-- A run that was asked for, beside the ticks.
UPDATE pgjobs.schedules
SET last_run_at = clock_timestamp(),
    last_task_id = %(task_id)s,
    total_run_count = total_run_count + 1
WHERE app = %(app)s AND name = %(name)s
RETURNING name
