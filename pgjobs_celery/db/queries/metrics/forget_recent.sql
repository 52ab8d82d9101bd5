UPDATE pgjobs.totals AS t
SET recent_count = 0,
    recent_micros = 0
WHERE t.recent_count <> 0
