-- Find and repair issues and comments that were created twice; one replica at a time.

-- name: duplicate_repair_due
-- Return whether a full check is due, and whether a known duplicate waits for its repair. An idle service runs only
-- this.
select not exists (select from lease where name = 'duplicate_repair' and expires_at > now()) as full_check,
       exists (select from marker_observation where is_duplicate and repaired_at is null)
         and not exists (select from lease where name = 'duplicate_repair_known' and expires_at > now()) as known_duplicates

-- name: mark_duplicates
-- Mark the observations of one marker in several issues. Two replicas that inserted theirs at the same time did not see
-- each other's.
update marker_observation s set is_duplicate = true
where not s.is_duplicate and s.at > now() - interval '1 hour'
  and exists (select from marker_observation o
              where o.destination_id = s.destination_id and o.marker = s.marker and o.remote_id <> s.remote_id)

-- name: list_duplicates
-- Select markers that were seen in more than one issue, with their delivery and link, at destinations that accept
-- writes. In random order, so that one that always fails does not delay the others.
select m.destination_id, m.marker, m.first_at, d.first_sent_at, d.state as delivery_state, l.id as lane_id,
       l.state as lane_state, t.status, k.remote_id as linked
from (select destination_id, marker, min(at) as first_at from marker_observation s
      where (destination_id, marker) in
            (select destination_id, marker from marker_observation where is_duplicate and repaired_at is null limit 500)
      group by destination_id, marker) m
join destination x on x.id = m.destination_id and x.retired_at is null
join destination_state s on s.destination_id = m.destination_id
left join delivery d on d.marker = m.marker
left join lane l on l.id = d.lane_id
left join ticket t on t.id = l.ticket_id
left join link k on k.lane_id = l.id
where s.pause_reason is null and s.breaker <> 2 and (s.blocked_until is null or s.blocked_until <= now())
order by random() limit $1

-- name: set_canonical_issue
-- Make an issue the first one in which its marker was seen, so that the verification of an unknown outcome finds it
-- too.
update marker_observation s set at = o.first - interval '1 microsecond'
from (select min(at) as first from marker_observation where destination_id = $1 and marker = $2 and remote_id <> $3) o
where s.destination_id = $1 and s.marker = $2 and s.remote_id = $3 and s.at >= o.first

-- name: move_link
-- Link a ticket to another issue. No row: it was moved already, or the issue belongs to another ticket.
update link k
set remote_id = $3, remote_key = $4, url = $5, state = 1, remote_state = $6, remote_version = $7
where k.lane_id = $1 and k.remote_id = $2
  and not exists (select from link o where o.destination_id = k.destination_id and o.remote_id = $3)
returning k.lane_id

-- name: mark_repaired
-- Mark the duplicates of a marker as repaired. Returns those that were not repaired before.
update marker_observation set repaired_at = now()
where destination_id = $1 and marker = $2 and is_duplicate and repaired_at is null
returning remote_id

-- name: list_resent_deliveries
-- Select finished deliveries that were sent again after all verifications found nothing, once the tracker's lists are
-- up to date.
select d.lane_id, d.seq, d.kind, d.marker, d.first_sent_at, l.destination_id, k.remote_id, k.remote_key, k.url
from delivery d
join lane l on l.id = d.lane_id
join destination_state s on s.destination_id = l.destination_id
join destination x on x.id = l.destination_id and x.retired_at is null
left join link k on k.lane_id = l.id
where d.resent_at is not null and d.duplicates_checked_at is null and d.state = 1 and d.kind in (1, 2)
  and greatest(d.resent_at, d.done_at) < now() - $1::interval
  and s.pause_reason is null and s.breaker <> 2 and (s.blocked_until is null or s.blocked_until <= now())
order by random() limit $2

-- name: mark_duplicates_checked
-- Mark a delivery as checked for duplicates, and store the id of the comment that was kept. No row: another replica
-- did.
update delivery set duplicates_checked_at = now(), remote_id = coalesce($3, remote_id)
where lane_id = $1 and seq = $2 and duplicates_checked_at is null
returning seq

-- name: release_loop_parked_lanes
-- Release lanes that were parked for an update loop and have no work, after their ticket was quiet for an hour: an
-- operator would have nothing to replay.
update lane l set state = 0, park_reason = null
where l.state = 3 and l.park_reason like 'loop:%' and l.head_seq = l.next_seq
  and not exists (select from event e join ticket t on t.id = e.ticket_id
                  where e.ticket_id = l.ticket_id and e.n = t.next_event - 1 and e.at > now() - interval '1 hour')
