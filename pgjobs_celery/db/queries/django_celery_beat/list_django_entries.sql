-- The entries of django-celery-beat, each with its schedule. Columns that need not be times come as
-- JSON, so that a release that lacks a column, or has one more, can be read as well. Times are given
-- only where Python can hold them, and as text where it cannot: one such row must not hide the others.
-- Literals have no type, because with USE_TZ off the columns have no time zone.
SELECT t.name, pg_catalog.to_jsonb(t), pg_catalog.to_jsonb(i), pg_catalog.to_jsonb(c), pg_catalog.to_jsonb(s),
       CASE WHEN k.clocked_time BETWEEN '0001-01-03' AND '9999-12-29' THEN k.clocked_time END,
       CASE WHEN t.expires BETWEEN '0001-01-03' AND '9999-12-29' THEN t.expires END,
       CASE WHEN t.start_time BETWEEN '0001-01-03' AND '9999-12-29' THEN t.start_time END,
       CASE WHEN t.last_run_at BETWEEN '0001-01-03' AND '9999-12-29' THEN t.last_run_at END,
       CASE WHEN t.date_changed BETWEEN '0001-01-03' AND '9999-12-29' THEN t.date_changed END,
       pg_catalog.jsonb_strip_nulls(pg_catalog.jsonb_build_object(
         'clocked_time', CASE WHEN k.clocked_time NOT BETWEEN '0001-01-03' AND '9999-12-29'
                              THEN k.clocked_time::text END,
         'expires', CASE WHEN t.expires NOT BETWEEN '0001-01-03' AND '9999-12-29'
                         THEN t.expires::text END,
         'start_time', CASE WHEN t.start_time NOT BETWEEN '0001-01-03' AND '9999-12-29'
                            THEN t.start_time::text END,
         'last_run_at', CASE WHEN t.last_run_at NOT BETWEEN '0001-01-03' AND '9999-12-29'
                             THEN t.last_run_at::text END))
FROM django_celery_beat_periodictask AS t
LEFT JOIN django_celery_beat_intervalschedule AS i ON i.id = t.interval_id
LEFT JOIN django_celery_beat_crontabschedule AS c ON c.id = t.crontab_id
LEFT JOIN django_celery_beat_solarschedule AS s ON s.id = t.solar_id
LEFT JOIN django_celery_beat_clockedschedule AS k ON k.id = t.clocked_id
ORDER BY t.name
