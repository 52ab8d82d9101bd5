-- For people and dashboards, not for a loop: counting reads every retained row, 0.3 to 0.7 s per
-- million. The wait is that of the job that has been ready for longest, NULL where none is ready.
SELECT j.queue, j.state, pg_catalog.count(*) AS jobs,
       extract(epoch FROM pg_catalog.now()
                          - pg_catalog.min(j.scheduled_at) FILTER (WHERE j.state = 'available'
                                                               AND pg_catalog.isfinite(j.scheduled_at)))::float8
         AS oldest_wait
FROM pgjobs.jobs AS j
GROUP BY j.queue, j.state
ORDER BY j.queue, j.state
