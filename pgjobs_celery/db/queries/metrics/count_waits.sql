-- The jobs that sleep or wait for a signal, of which task and queue, up to a depth: 10,000 are looked at in
-- 30 ms, 100,000 would take ten times that with each scrape.
SELECT j.task, j.queue, w.name IS NOT NULL, pg_catalog.count(*)
FROM (SELECT s.job, s.name FROM pgjobs.waits AS s LIMIT %(depth)s::bigint) AS w
JOIN pgjobs.jobs AS j ON j.id = w.job
WHERE j.finished_at IS NULL
GROUP BY 1, 2, 3
