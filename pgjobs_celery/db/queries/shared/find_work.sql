-- Whether the server works for a session of ours that has waited for an answer for some seconds. A
-- session that waits for its client (to send more, or to take the answer) does not count. Behind a
-- pooler the sessions have the pooler's numbers: any work of ours that has taken as long counts.
SELECT EXISTS (
  SELECT
  FROM pg_catalog.pg_stat_activity AS a
  WHERE a.usename = current_user
    AND pg_catalog.left(a.state, 4) <> 'idle'
    AND a.wait_event_type IS DISTINCT FROM 'Client'
    AND CASE pg_catalog.pg_backend_pid()
      WHEN %(asking)s::integer THEN a.pid = %(waiting)s::integer
      ELSE a.pid <> pg_catalog.pg_backend_pid()
           AND a.application_name = pg_catalog.current_setting('application_name')
           AND a.xact_start < pg_catalog.now() - %(seconds)s::double precision * interval '1 second'
    END
)
