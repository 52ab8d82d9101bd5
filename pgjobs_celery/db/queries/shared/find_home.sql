-- Which database this is, on which server, whatever either is called where we connect.
SELECT pg_catalog.current_database()::text, extract(epoch FROM pg_catalog.pg_postmaster_start_time())::text
