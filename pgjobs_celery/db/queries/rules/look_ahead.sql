-- In how many seconds the next pause is over, of a queue or of jobs; NULL without one that ends. And whether there
-- are signals or waits that nothing has looked at (wake_waiting).
SELECT (
         SELECT extract(epoch FROM pg_catalog.min(e.at) - pg_catalog.now())::float8
         FROM (
           SELECT l.paused_until FROM pgjobs.limits AS l
           WHERE l.paused_until IS NOT NULL AND pg_catalog.isfinite(l.paused_until)
           UNION ALL
           SELECT p.until FROM pgjobs.pauses AS p
           WHERE p.until IS NOT NULL AND pg_catalog.isfinite(p.until)
         ) AS e (at)
       ),
       EXISTS (SELECT FROM pgjobs.signals AS s WHERE s.is_new)
       OR EXISTS (SELECT FROM pgjobs.waits AS w WHERE w.is_new)
