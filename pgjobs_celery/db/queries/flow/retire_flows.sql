-- Rules that the code of a worker has no more.
DELETE FROM pgjobs.flows AS f
WHERE f.flow = ANY (%(flows)s::text[])
  AND f.source = 'code'
