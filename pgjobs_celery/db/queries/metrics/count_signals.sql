-- Signals that are kept because no job has taken them, up to a depth: by signals_sent, which prunes them.
SELECT pg_catalog.count(*)
FROM (SELECT FROM pgjobs.signals AS s WHERE s.job IS NULL ORDER BY s.sent_at LIMIT %(depth)s::bigint) AS k
