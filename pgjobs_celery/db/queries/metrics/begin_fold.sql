INSERT INTO pgjobs.fold (is_only) VALUES (true) ON CONFLICT DO NOTHING
