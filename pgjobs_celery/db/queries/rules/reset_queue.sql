-- Forget what a hand has set for a queue, but for its pause and the limit of all its jobs.
WITH forgotten AS (
  DELETE FROM pgjobs.flows AS f
  WHERE f.flow = ANY (%(flows)s::text[])
    AND f.source = 'hand'
)
UPDATE pgjobs.limits AS l
SET fair_by = CASE WHEN 'fair_by' = ANY (l.by_hand) THEN NULL ELSE l.fair_by END,
    ageing = CASE WHEN 'ageing' = ANY (l.by_hand) THEN NULL ELSE l.ageing END,
    max_depth = CASE WHEN 'max_depth' = ANY (l.by_hand) THEN NULL ELSE l.max_depth END,
    on_full = CASE WHEN 'on_full' = ANY (l.by_hand) THEN NULL ELSE l.on_full END,
    full_wait = CASE WHEN 'full_wait' = ANY (l.by_hand) THEN NULL ELSE l.full_wait END,
    by_hand = '{}'
WHERE l.queue = %(queue)s
