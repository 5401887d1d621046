-- Open tickets that no route took.

-- name: unrouted_tickets
-- Select open tickets without a route, oldest first, with the data of the event that opened each.
select t.id, t.source_id, t.kind, t.environment, t.level, t.release, t.title, e.data::text as data
from ticket t join event e on e.ticket_id = t.id and e.n = 1
where t.unrouted and t.status = 1 and not t.superseded and t.id > $1
order by t.id limit $2

-- name: count_unrouted_tickets
-- Count open tickets without a route.
select count(*) from ticket where unrouted and status = 1 and not superseded
