-- The rules that count, by name: of two for one flow, that of the hand. All, or those named.
SELECT DISTINCT ON (f.flow)
       f.flow, f.amount, f.period, f.by, f.burst, f.algorithm, f.scope, f.source
FROM pgjobs.flows AS f
WHERE %(flows)s::text[] IS NULL
   OR f.flow = ANY (%(flows)s::text[])
ORDER BY f.flow, f.source DESC
LIMIT %(limit)s::bigint
