-- Storms: each source's minute, the tickets that are held back in one, and the parent that lists them.

-- name: windows
-- The minutes of sources, unlocked: whether a storm goes on.
select source_id, began_at, opened, parent_id, now() as now from storm where source_id = any ($1::integer[])

-- name: lock_windows
-- The minutes of sources that are about to open tickets, locked in one order; a first one begins.
insert into storm (source_id)
select * from unnest($1::integer[]) order by 1
on conflict (source_id) do update set source_id = excluded.source_id
returning source_id, began_at, opened, parent_id, greatest(now(), began_at) as now

-- name: write_windows
-- What the minutes are now.
update storm s set began_at = n.began_at, opened = n.opened, parent_id = n.parent_id
from unnest($1::integer[], $2::timestamptz[], $3::integer[], $4::uuid[]) as n (source_id, began_at, opened, parent_id)
where s.source_id = n.source_id

-- name: open_parent
-- A storm's own ticket.
insert into ticket (id, source_id, kind, fingerprint, title) values ($1, $2, 1, $3, $4)
on conflict (source_id, fingerprint) where not superseded do update set last_seen_at = now()
returning id

-- name: count_held
-- So many more are held back in a storm; its parent, locked, as it stands.
update ticket set occurrences = occurrences + $2, last_seen_at = now() where id = $1
returning id, source_id, kind, fingerprint, generation, status, close_reason, next_event, reporter_email, storm_parent

-- name: unsent_news
-- The destinations where news of a storm waits to be sent. Its lanes are locked: who claims one reads after us. The limit keeps
-- the planner to one look a lane, whatever waits elsewhere.
select l.destination_id
from lane l
cross join lateral (
  select from delivery d
  where d.lane_id = l.id and d.seq >= l.head_seq and d.state = 0 and d.first_sent_at is null and d.draft is null
    and (d.kind = 1 or d.collapse_key = 'storm') and (d.seq > l.head_seq or l.state <> 2)
  limit 1) d
where l.ticket_id = $1

-- name: wait_for_more
-- News of a storm on lanes that had nothing to do goes out when the minute is over, and then tells of all of it.
update lane set due_at = greatest(due_at, $2)
where ticket_id = $1 and state = 1 and head_seq = next_seq - 1
  and exists (select from delivery d where d.lane_id = lane.id and d.seq = lane.head_seq and d.collapse_key = 'storm')

-- name: held_at
-- The tickets listed in a storm that would have gone to this destination, newest first.
select t.id, t.title, count(*) over () as total
from ticket t join event e on e.ticket_id = t.id and e.n = 1
where t.storm_parent = $1 and e.data -> 'routed' @> to_jsonb($2::integer)
order by t.id desc limit $3

-- name: held
-- The tickets listed in a storm, newest first, for people.
select id, title, status, occurrences, count(*) over () as total
from ticket where storm_parent = $1 order by id desc limit $2
