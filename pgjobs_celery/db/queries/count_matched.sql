-- on match_jobs
SELECT m.state, count(*) FROM matched AS m GROUP BY m.state
