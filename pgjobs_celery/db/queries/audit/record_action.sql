-- In the transaction of the action itself. Nothing is returned, so that the right to INSERT suffices.
INSERT INTO pgjobs.audit
  (action, actor, via, client, queue, app, schedule, jobs, task_ids, filters, details, action_id, batch)
VALUES (%(action)s, %(actor)s, %(via)s, %(client)s, %(queue)s, %(app)s, %(schedule)s, %(jobs)s::integer,
        %(task_ids)s::text[], %(filters)s, %(details)s::text::jsonb, %(action_id)s::uuid,
        %(batch)s::integer)
