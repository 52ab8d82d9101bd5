-- Have a queue serve its keys in turn, or (NULL) no more; what the code says does not count any more.
INSERT INTO pgjobs.limits AS l (queue, fair_by, ageing, by_hand)
VALUES (%(queue)s, %(fair_by)s, %(ageing)s::float8, ARRAY['fair_by', 'ageing'])
ON CONFLICT (queue) DO UPDATE
SET fair_by = excluded.fair_by,
    ageing = excluded.ageing,
    by_hand = ARRAY(SELECT DISTINCT pg_catalog.unnest(pg_catalog.array_cat(l.by_hand, excluded.by_hand)))
