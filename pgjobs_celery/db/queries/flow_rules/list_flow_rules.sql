-- The flows that publishers must know of, and by which argument each counts. As a rule there are two for each
-- task and queue at most; read every few seconds by a process that publishes.
SELECT f.flow, f.source, f.by
FROM pgjobs.flows AS f
ORDER BY f.flow, f.source
LIMIT %(most)s::bigint
