-- Replay deliveries that were given up, by filter.

-- name: replay_destination
-- Select a destination and the current time. Deliveries that stop after that time are not replayed.
select id as destination_id, now() as now from destination where slug = $1

-- name: stopped_deliveries
-- Select dead deliveries, and the next deliveries of parked lanes, of one destination and outcome that stopped in a
-- period; in lane order, after a cursor. A parked lane's due_at is when it was parked.
select lane_id, seq, kind, outcome_unknown from (
  select d.lane_id, d.seq, d.kind, d.outcome_unknown
  from delivery d join lane l on l.id = d.lane_id
  where d.state = 2 and d.last_outcome = $2 and l.destination_id = $1
    and d.done_at >= coalesce($3::timestamptz, '-infinity') and d.done_at <= $4::timestamptz
  union all
  select d.lane_id, d.seq, d.kind, d.outcome_unknown
  from lane l join delivery d on d.lane_id = l.id and d.seq = l.head_seq
  where l.destination_id = $1 and l.state = 3 and l.park_reason = $2 and d.state = 0
    and l.due_at >= coalesce($3::timestamptz, '-infinity') and l.due_at <= $4::timestamptz) stopped
where (lane_id, seq) > ($5::bigint, $6::bigint)
order by lane_id, seq limit $7

-- name: write_replay_audit
-- Record in the audit log that an operator replayed deliveries.
insert into audit (actor, action, object, detail) values ('operator', 'replay', $1, $2::jsonb)
