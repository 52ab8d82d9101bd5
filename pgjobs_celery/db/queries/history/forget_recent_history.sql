-- What was recent at the last look; all of it ended after the time that counts had come to.
DELETE FROM pgjobs.history AS h
WHERE h.kind = ANY('{all,task,queue}'::text[])
  AND h.width = 60
  AND h.at >= pg_catalog.date_bin('1 minute', %(since)s::timestamptz, '2000-01-01 00:00:00+00')
  AND NOT h.is_final
