-- Writes only what is new: every producer declares its queue once per connection.
INSERT INTO pgjobs.queues AS q
  (name, durable, auto_delete, exclusive, owner, expires_after, message_ttl, arguments)
VALUES (%(name)s, %(durable)s, %(auto_delete)s, %(exclusive)s, %(owner)s::uuid,
        %(expires_after)s::double precision, %(message_ttl)s::double precision,
        %(arguments)s::jsonb)
ON CONFLICT (name) DO NOTHING
