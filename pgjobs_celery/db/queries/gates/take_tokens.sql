-- Take tokens of a gate for code outside of jobs: now or, where it has too few, at the moment when they are
-- free, if that comes within "most" seconds; they are taken for that moment at once, so that who waits need
-- not ask again, and others come after. Not further ahead than a period, which is what claims look at.
-- Locked for as long as this takes, 0.2 ms; claims that meet it locked count it as shut. By the clock
-- once it is locked, and not by that of the transaction, which may have waited.
-- Returns whether they were taken, and in how many seconds they are, or would be, free; nothing while another
-- transaction makes the gate's row.
WITH flow AS MATERIALIZED (
  SELECT o AS flow,
         CASE o.algorithm WHEN 'bucket' THEN coalesce(o.burst, o.amount) ELSE o.amount END AS most
  FROM pgjobs.flows AS o
  WHERE o.flow = %(flow)s
  ORDER BY o.source DESC
  LIMIT 1
), seen AS MATERIALIZED (
  SELECT v.turn FROM pgjobs.gates AS v WHERE v.gate = %(gate)s ORDER BY v.turn DESC LIMIT 1
), held AS MATERIALIZED (
  SELECT v AS gate FROM pgjobs.gates AS v WHERE v.gate = %(gate)s ORDER BY v.turn DESC LIMIT 1
  FOR NO KEY UPDATE
), clock AS MATERIALIZED (
  SELECT h.gate, extract(epoch FROM pg_catalog.clock_timestamp())::double precision AS now
  FROM held AS h
), asked AS MATERIALIZED (
  SELECT f.flow, c.gate, c.now, n.cost,
         CASE WHEN n.free >= n.cost AND (f.flow).amount > 0 THEN 0
              ELSE greatest(n.opens - c.now, 0.001) END AS delay
  FROM flow AS f
  CROSS JOIN clock AS c
  CROSS JOIN LATERAL (
    SELECT m.cost,
           CASE WHEN (f.flow).algorithm = 'bucket'
                THEN pg_catalog.floor(f.most::double precision - least(
                  greatest(coalesce((c.gate).full_at, 0) - c.now, 0) * (f.flow).amount::double precision
                  / (f.flow).period, 1e9) + 1e-6::double precision)::bigint
                -- With what was taken for the time to come.
                ELSE f.most - (
                  SELECT coalesce(pg_catalog.sum(u.count), 0)
                  FROM unnest((c.gate).times, (c.gate).counts) AS u (at, count)
                  WHERE u.at > c.now - (f.flow).period AND u.at < c.now + (f.flow).period * 1.02::double precision)::bigint
           END AS free,
           CASE WHEN (f.flow).amount = 0 THEN 'infinity'
                WHEN (f.flow).algorithm = 'bucket'
                THEN coalesce((c.gate).full_at, c.now) - (f.most - m.cost)::double precision
                     * (f.flow).period / (f.flow).amount::double precision
                -- Once this one has passed, only later ones count.
                ELSE (SELECT pg_catalog.min(t.at) + (f.flow).period
                      FROM (
                        SELECT u.at, pg_catalog.sum(u.count) OVER (ORDER BY u.at DESC) - u.count AS later
                        FROM unnest((c.gate).times, (c.gate).counts) AS u (at, count)
                        WHERE u.at > c.now - (f.flow).period AND u.at < c.now + (f.flow).period * 1.02::double precision
                      ) AS t
                      WHERE t.later <= f.most - m.cost)
           END AS opens
    FROM (SELECT least(%(cost)s::bigint, f.most) AS cost) AS m
  ) AS n
  WHERE (f.flow).amount IS NOT NULL
    AND (f.flow).period IS NOT NULL
), granted AS MATERIALIZED (
  SELECT a.*
  FROM asked AS a
  WHERE a.delay <= least(%(most)s::double precision, (a.flow).period)
), taken AS (
  UPDATE pgjobs.gates AS g
  SET turn = g.turn + 1,
      -- Not to be pruned before what was taken ahead has passed.
      used_at = pg_catalog.to_timestamp(u.now + u.delay),
      times = CASE WHEN (u.flow).algorithm = 'bucket' THEN '{}' ELSE n.times END,
      counts = CASE WHEN (u.flow).algorithm = 'bucket' THEN '{}' ELSE n.counts END,
      looks_from = greatest(g.looks_from, (
        SELECT pg_catalog.max(e.at) FROM pg_catalog.unnest((u.gate).times) AS e (at) WHERE e.at <= u.now - (u.flow).period
      ) + (u.flow).period),
      full_at = CASE WHEN (u.flow).algorithm = 'bucket'
                     THEN greatest(coalesce((u.gate).full_at, 0), u.now)
                          + u.cost::double precision * (u.flow).period
                            / (u.flow).amount::double precision END
  FROM granted AS u
  CROSS JOIN seen AS s
  CROSS JOIN LATERAL (
    SELECT pg_catalog.array_agg(w.at ORDER BY w.at) AS times,
           pg_catalog.array_agg(w.count ORDER BY w.at) AS counts
    FROM (
      SELECT y.at, pg_catalog.sum(y.count)::integer AS count
      FROM (
        SELECT e.at, e.count
        FROM unnest((u.gate).times, (u.gate).counts) AS e (at, count)
        WHERE e.at > u.now - (u.flow).period
        UNION ALL
        SELECT pg_catalog.ceil((u.now + u.delay) * 100::double precision / (u.flow).period)
               * (u.flow).period / 100::double precision, u.cost
      ) AS y
      GROUP BY y.at
    ) AS w
  ) AS n
  WHERE g.gate = %(gate)s
    AND g.turn >= s.turn
  RETURNING g.turn
)
SELECT EXISTS (SELECT FROM taken), a.delay
FROM asked AS a
UNION ALL
-- A rule that allows any number.
SELECT true, 0
FROM flow AS f
WHERE (f.flow).amount IS NULL OR (f.flow).period IS NULL
