-- Running again what was given up, by filter.

-- name: moment
-- Until when deliveries may have stopped to be run again: what stops afterwards is another matter.
select id as destination_id, now() as moment from destination where slug = $1

-- name: stopped
-- Dead deliveries and heads that parked lanes wait for, of one destination and class, that stopped in a time; in the order
-- of their lanes, after a place. A parked lane has been due at no time since it was parked.
select lane_id, seq, kind, in_doubt from (
  select d.lane_id, d.seq, d.kind, d.in_doubt
  from delivery d join lane l on l.id = d.lane_id
  where d.state = 2 and d.last_class = $2 and l.destination_id = $1
    and d.done_at >= coalesce($3::timestamptz, '-infinity') and d.done_at <= $4::timestamptz
  union all
  select d.lane_id, d.seq, d.kind, d.in_doubt
  from lane l join delivery d on d.lane_id = l.id and d.seq = l.head_seq
  where l.destination_id = $1 and l.state = 3 and l.parked_why = $2 and d.state = 0
    and l.due_at >= coalesce($3::timestamptz, '-infinity') and l.due_at <= $4::timestamptz) stopped
where (lane_id, seq) > ($5::bigint, $6::bigint)
order by lane_id, seq limit $7

-- name: note_replay
-- Who ran what again.
insert into audit (who, what, object, detail) values ('operator', 'replay', $1, $2::jsonb)
