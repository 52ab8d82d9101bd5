-- on match_jobs
SELECT m.state, pg_catalog.count(*) FROM matched AS m GROUP BY m.state
