-- Observations of markers: the issues in which each marker was seen.

-- name: insert_marker_observations
-- Record issues in which markers were seen. No lease is needed for that. A second issue with the same marker makes both
-- duplicates.
with seen as (
  select * from unnest($1::integer[], $2::uuid[], $3::text[], $4::text[], $5::text[], $6::text[])
    as s (destination_id, marker, remote_id, remote_key, url, seen_by)),
duplicates as (
  update marker_observation s set is_duplicate = true, repaired_at = null
  from seen
  where s.destination_id = seen.destination_id and s.marker = seen.marker and s.remote_id <> seen.remote_id
    and not exists (select from marker_observation known
                    where known.destination_id = seen.destination_id and known.marker = seen.marker
                      and known.remote_id = seen.remote_id))
insert into marker_observation (destination_id, marker, remote_id, remote_key, url, seen_by, is_duplicate)
select destination_id, marker, remote_id, remote_key, url, seen_by,
       exists (select from marker_observation other
               where other.destination_id = seen.destination_id and other.marker = seen.marker
                 and other.remote_id <> seen.remote_id)
from seen order by destination_id, marker, remote_id
on conflict do nothing

-- name: issues_with_marker
-- Select the issues in which a marker was seen, the first one first.
select remote_id, remote_key, url from marker_observation
where destination_id = $1 and marker = $2 order by at, remote_id
