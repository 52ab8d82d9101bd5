-- The entries of django-celery-beat, each with its schedule. As JSON what is not needed as a time, so
-- that a release of it which lacks a column, or has one more, is read as well.
SELECT t.name, to_jsonb(t), to_jsonb(i), to_jsonb(c), to_jsonb(s), k.clocked_time,
       t.expires, t.start_time, t.last_run_at, t.date_changed
FROM django_celery_beat_periodictask AS t
LEFT JOIN django_celery_beat_intervalschedule AS i ON i.id = t.interval_id
LEFT JOIN django_celery_beat_crontabschedule AS c ON c.id = t.crontab_id
LEFT JOIN django_celery_beat_solarschedule AS s ON s.id = t.solar_id
LEFT JOIN django_celery_beat_clockedschedule AS k ON k.id = t.clocked_id
ORDER BY t.name
