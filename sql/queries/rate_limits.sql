-- Rate limits of credentials, shared by all replicas. The arithmetic is that of domain/token_bucket.py.

-- name: take_tokens
-- Take tokens of one scope: for urgent writes, for others, and some in advance. Writes that are not urgent leave the
-- reserve ($5) alone. There are no tokens while the tracker asked to wait, whatever the scope. A reduced rate recovers
-- by a twentieth of the declared one a minute. No row: insert it first.
with old as materialized (
  select b.credential, b.scope, b.tokens, b.rate, b.declared_rate, greatest(b.refilled_at, now()) as refilled_at,
         greatest(0, extract(epoch from now() - b.refilled_at))::float8 as elapsed,
         greatest(0, extract(epoch from
           greatest(b.limited_until, b.refilled_at,
                    (select max(o.limited_until) from rate_limit o where o.credential = $1)) - now()))::float8 as rest
  from rate_limit b where b.credential = $1 and b.scope = $2 for update),
full_now as (
  select *, least($4::float8, tokens + case when declared_rate > 0 then rate else $3 end * elapsed) as filled,
         -- in proportion, so that two replicas of different versions may take turns
         $3::float8 * least(1, coalesce(rate / nullif(declared_rate, 0), 1) + elapsed / 1200) as climbed
  from old),
urgent as (
  select *, case when rest > 0 then 0 else least($6::integer, floor(filled))::integer end as for_urgent
  from full_now),
granted as (
  select *, case when rest > 0 then 0
            else greatest(0, least($7::integer + least($8::integer, floor(climbed)),
                                   floor(filled - for_urgent - $5::float8)))::integer end as for_others
  from urgent),
taken as (
  update rate_limit b
  set tokens = greatest(0, granted.filled - granted.for_urgent - granted.for_others), refilled_at = granted.refilled_at,
      rate = granted.climbed, declared_rate = $3, burst = $4
  from granted
  where b.credential = granted.credential and b.scope = granted.scope and granted.for_urgent + granted.for_others > 0)
select for_urgent as priority, for_others as normal, greatest(0, filled - for_urgent - for_others) as tokens, climbed as rate,
       rest as blocked_seconds
from granted

-- name: insert_rate_limit
-- Insert a rate limit with a full bucket.
insert into rate_limit (credential, scope, declared_rate, rate, burst, tokens)
values ($1, $2, $3, $3, $4, $4) on conflict do nothing

-- name: reduce_rate
-- Reduce a rate after a 429: the bucket is empty until the requested time, and the rate is halved, once for all answers
-- that arrive before. All destinations of the credential are blocked meanwhile, for all replicas.
with slowed as (
  insert into rate_limit as b (credential, scope, declared_rate, rate, burst, tokens, refilled_at, limited_until, limited_count)
  values ($1, $2, $3::float8, $3::float8 / 2, $4, 0, now() + $5::interval, now() + $5::interval, 1)
  on conflict (credential, scope) do update
  set rate = case
        when b.limited_until > now() then b.rate
        else greatest(b.declared_rate / 20,
                      least(b.declared_rate,
                            b.rate + b.declared_rate
                                     * greatest(0, extract(epoch from now() - b.refilled_at))::float8 / 1200) / 2) end,
      tokens = 0, refilled_at = greatest(b.refilled_at, excluded.refilled_at),
      limited_until = greatest(b.limited_until, excluded.limited_until), limited_count = b.limited_count + 1
  returning b.credential),
locked as materialized (
  select s.destination_id from destination_state s, slowed
  where s.credential = slowed.credential or s.destination_id = $6 order by s.destination_id for update of s)
update destination_state s set blocked_until = greatest(s.blocked_until, now() + $5::interval)
from locked where s.destination_id = locked.destination_id
returning s.destination_id

-- name: rate_limit_status
-- Select every rate limit with its current tokens and rate, and the destinations that share it.
select b.scope, array_remove(array_agg(d.slug order by d.slug), null) as destinations,
       least(b.burst, b.tokens + b.rate * greatest(0, extract(epoch from now() - b.refilled_at)))::float8 as tokens, b.burst,
       least(b.declared_rate, b.rate + b.declared_rate
                              * greatest(0, extract(epoch from now() - b.refilled_at)) / 1200)::float8 as rate,
       b.declared_rate, case when b.limited_until > now() then b.limited_until end as limited_until, b.limited_count
from rate_limit b
left join destination_state s on s.credential = b.credential
left join destination d on d.id = s.destination_id and d.retired_at is null
where b.scope <> '@mail'
group by b.credential, b.scope order by 2, 1

-- name: record_credentials
-- Record which destinations share a credential.
update destination_state s set credential = now_is.credential
from unnest($1::integer[], $2::bytea[]) as now_is (id, credential)
where s.destination_id = now_is.id and s.credential is distinct from now_is.credential
returning s.destination_id

-- name: delete_unused_rate_limits
-- Delete the rate limits of credentials that no destination uses any more.
delete from rate_limit b
where b.refilled_at < now() - interval '1 day'
  and not exists (select from destination_state s where s.credential = b.credential)

-- name: delete_old_mail_limits
-- Delete the limits of mail addresses to which nothing was sent for a day; their buckets are full again.
delete from rate_limit where scope = '@mail' and refilled_at < now() - interval '1 day'
