-- Which names have a place in the totals: there are as many as the configuration allows.
SELECT DISTINCT t.task, t.queue, t.exception FROM pgjobs.totals AS t WHERE t.kind <> 'throttled'
