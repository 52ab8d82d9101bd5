-- Whether there is anything to count: an idle system is asked this alone, but once a minute. Each part reads
-- one entry of an index, or a small table.
SELECT f.folded_at < pg_catalog.clock_timestamp() - %(idle)s::float8 * interval '1 second'
       OR EXISTS (SELECT FROM pgjobs.jobs AS j WHERE j.finished_at >= f.watermark AND j.finished_at IS NOT NULL)
       OR EXISTS (SELECT FROM pgjobs.jobs AS j WHERE j.finished_at IS NULL AND j.due_at IS NULL
                  ORDER BY j.queue, j.priority, j.seq LIMIT 1)
       OR EXISTS (SELECT FROM pgjobs.tally AS t)
       OR EXISTS (SELECT FROM pgjobs.lines AS l WHERE l.state IN ('available', 'executing'))
FROM pgjobs.fold AS f
