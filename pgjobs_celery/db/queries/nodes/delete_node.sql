DELETE FROM pgjobs.nodes AS n WHERE n.node = %(node)s::uuid
