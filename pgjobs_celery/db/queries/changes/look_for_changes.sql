-- Marks, of which another look shows another one where something has changed since: of jobs, queues, workers,
-- entries, the audit and the totals. One look a second serves all who watch, however many; 0.3 ms. The
-- newest row and the newest end are read from an index. What else becomes of jobs, and what comes to
-- the audit, is known from the server's count of rows written: a session tells of what it wrote at its
-- next commit a second later, or when it has been idle for ten.
SELECT coalesce((SELECT j.id FROM pgjobs.jobs AS j ORDER BY j.id DESC LIMIT 1)::text, ''),
       coalesce((SELECT j.finished_at
                 FROM pgjobs.jobs AS j
                 WHERE j.finished_at IS NOT NULL
                 ORDER BY j.finished_at DESC
                 LIMIT 1)::text, ''),
       (SELECT (pg_catalog.pg_stat_get_tuples_inserted(t.job) + pg_catalog.pg_stat_get_tuples_updated(t.job)
                + pg_catalog.pg_stat_get_tuples_deleted(t.job))::text
        FROM (SELECT 'pgjobs.jobs'::regclass::oid AS job) AS t),
       -- A row that is written gets a newer xmin.
       (SELECT pg_catalog.count(*)::text || ' ' || coalesce(pg_catalog.sum(l.xmin::text::bigint)::text, '')
        FROM pgjobs.limits AS l),
       -- Not xmin: each heartbeat changes that.
       (SELECT coalesce(pg_catalog.sum(pg_catalog.hashtextextended(
                 n.node::text || n.name || coalesce(n.details::text, '')
                 || (n.heartbeat_at < pg_catalog.now() - n.lease / 2::float8 * interval '1 second')::text
                 || (n.heartbeat_at < pg_catalog.now() - n.lease * interval '1 second')::text,
                 0::bigint))::text, '')
        FROM pgjobs.nodes AS n),
       (SELECT pg_catalog.count(*)::text || ' ' || coalesce(pg_catalog.sum(s.version)::text, '') || ' '
               || coalesce(pg_catalog.sum(s.total_run_count)::text, '')
        FROM pgjobs.schedules AS s),
       pg_catalog.pg_stat_get_tuples_inserted('pgjobs.audit'::regclass::oid)::text,
       (SELECT (pg_catalog.pg_stat_get_tuples_inserted(t.total) + pg_catalog.pg_stat_get_tuples_updated(t.total))::text
        FROM (SELECT 'pgjobs.totals'::regclass::oid AS total) AS t)
