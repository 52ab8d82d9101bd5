-- How many jobs may wait in a queue, and what a publisher does when so many do; NULL for any number. What the
-- code says does not count any more.
INSERT INTO pgjobs.limits AS l (queue, max_depth, on_full, full_wait, by_hand)
VALUES (%(queue)s, %(max_depth)s::integer, %(on_full)s, %(full_wait)s::float8,
        ARRAY['max_depth', 'on_full', 'full_wait'])
ON CONFLICT (queue) DO UPDATE
SET max_depth = excluded.max_depth,
    on_full = excluded.on_full,
    full_wait = excluded.full_wait,
    by_hand = ARRAY(SELECT DISTINCT pg_catalog.unnest(pg_catalog.array_cat(l.by_hand, excluded.by_hand)))
