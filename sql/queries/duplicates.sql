-- What was made twice is found and repaired; by one replica at a time.

-- name: sweep_due
-- Whether it is time for a turn, and whether an issue that was made twice waits for one. All that an idle service asks.
select not exists (select from lease where name = 'sweep' and expires_at > now()) as turn,
       exists (select from sighting where twin and repaired_at is null)
         and not exists (select from lease where name = 'sweep twins' and expires_at > now()) as twins

-- name: mark_twins
-- Two replicas that wrote their sighting in the same moment did not see each other's: here they are put together.
update sighting s set twin = true
where not s.twin and s.at > now() - interval '1 hour'
  and exists (select from sighting o
              where o.destination_id = s.destination_id and o.marker = s.marker and o.remote_id <> s.remote_id)

-- name: twins
-- Markers that were seen in more than one issue, with the delivery and the link they belong to, at destinations that may
-- be worked. In any order: one that always fails must not stand before the others.
select m.destination_id, m.marker, m.first_at, d.first_sent_at, d.state as delivery_state, l.id as lane_id,
       l.state as lane_state, t.status, k.remote_id as linked
from (select destination_id, marker, min(at) as first_at from sighting s
      where (destination_id, marker) in
            (select destination_id, marker from sighting where twin and repaired_at is null limit 500)
      group by destination_id, marker) m
join destination x on x.id = m.destination_id and x.retired_at is null
join destination_state s on s.destination_id = m.destination_id
left join delivery d on d.marker = m.marker
left join lane l on l.id = d.lane_id
left join ticket t on t.id = l.ticket_id
left join link k on k.lane_id = l.id
where s.paused_why is null and s.breaker <> 2 and (s.blocked_until is null or s.blocked_until <= now())
order by random() limit $1

-- name: sightings_of_marker
-- The issues a marker was seen in, first one first.
select remote_id, remote_key, url from sighting
where destination_id = $1 and marker = $2 order by at, remote_id

-- name: prefer
-- The issue that is kept counts as the first one seen, so that whoever settles a doubt takes it too.
update sighting s set at = o.first - interval '1 microsecond'
from (select min(at) as first from sighting where destination_id = $1 and marker = $2 and remote_id <> $3) o
where s.destination_id = $1 and s.marker = $2 and s.remote_id = $3 and s.at >= o.first

-- name: move_link
-- The ticket's issue is another one from now on. No row: it was moved already, or belongs to another ticket.
update link k
set remote_id = $3, remote_key = $4, url = $5, state = 1, remote_state = $6, remote_version = $7
where k.lane_id = $1 and k.remote_id = $2
  and not exists (select from link o where o.destination_id = k.destination_id and o.remote_id = $3)
returning k.lane_id

-- name: repaired
-- A marker's twins are seen to. The rows that come back are those that nobody had seen to before.
update sighting set repaired_at = now()
where destination_id = $1 and marker = $2 and twin and repaired_at is null
returning remote_id

-- name: resent
-- Deliveries that were sent again after every look had found nothing, done and old enough that the tracker's lists tell
-- the truth by now.
select d.lane_id, d.seq, d.kind, d.marker, d.first_sent_at, l.destination_id, k.remote_id, k.remote_key, k.url
from delivery d
join lane l on l.id = d.lane_id
join destination_state s on s.destination_id = l.destination_id
join destination x on x.id = l.destination_id and x.retired_at is null
left join link k on k.lane_id = l.id
where d.resent_at is not null and d.swept_at is null and d.state = 1 and d.kind in (1, 2)
  and greatest(d.resent_at, d.done_at) < now() - $1::interval
  and s.paused_why is null and s.breaker <> 2 and (s.blocked_until is null or s.blocked_until <= now())
order by random() limit $2

-- name: swept
-- A delivery was looked after; the comment that was kept is its comment. No row: somebody else was quicker.
update delivery set swept_at = now(), remote_id = coalesce($3, remote_id)
where lane_id = $1 and seq = $2 and swept_at is null
returning seq

-- name: free_quiet_lanes
-- A lane that was parked for going round in a circle, with nothing to do, is idle again once its ticket was quiet for an
-- hour: there is nothing in it that a person could replay.
update lane l set state = 0, parked_why = null
where l.state = 3 and l.parked_why like 'loop:%' and l.head_seq = l.next_seq
  and not exists (select from event e join ticket t on t.id = e.ticket_id
                  where e.ticket_id = l.ticket_id and e.n = t.next_event - 1 and e.at > now() - interval '1 hour')
