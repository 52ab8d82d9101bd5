-- Whether jobs of a queue have keys: by its turns, by a rule of its own or of a task, which may be in any queue, as
-- far as the rule counts; or jobs that wait there have one of a rule that was taken away.
SELECT EXISTS (SELECT FROM pgjobs.limits AS l WHERE l.queue = %(queue)s AND l.fair_by IS NOT NULL)
    OR EXISTS (
      SELECT
      FROM pgjobs.flows AS f
      WHERE f.by IS NOT NULL
        AND (f.flow = ANY (%(flows)s::text[]) OR f.flow !~ '^(rate|running)/queue/')
        AND (f.source = 'hand'
             OR NOT EXISTS (SELECT FROM pgjobs.flows AS h WHERE h.flow = f.flow AND h.source = 'hand')))
    OR EXISTS (
      SELECT FROM pgjobs.lanes AS l WHERE l.queue = %(queue)s AND pg_catalog.strpos(l.lane, '=') > 0)
