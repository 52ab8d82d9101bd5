-- Which database this is, on which server, whatever either is called where we connect.
SELECT current_database()::text, extract(epoch FROM pg_postmaster_start_time())::text
