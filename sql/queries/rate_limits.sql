-- Budgets: how fast a credential may be used, shared by all replicas. The arithmetic is that of delivery/pace.py.

-- name: take_tokens
-- Takes tokens of one scope: for urgent writes, for others, and some in advance. What is not urgent leaves the last part
-- of the bucket alone. While the tracker asked to wait, whatever the scope, there are none. A rate that was lowered climbs
-- back by a twentieth of the declared one a minute. No row: make it first.
with old as materialized (
  select b.credential, b.scope, b.tokens, b.rate, b.declared_rate, greatest(b.refilled_at, now()) as refilled_at,
         greatest(0, extract(epoch from now() - b.refilled_at))::float8 as elapsed,
         greatest(0, extract(epoch from
           greatest(b.limited_until, b.refilled_at,
                    (select max(o.limited_until) from budget o where o.credential = $1)) - now()))::float8 as rest
  from budget b where b.credential = $1 and b.scope = $2 for update),
full_now as (
  select *, least($4::float8, tokens + case when declared_rate > 0 then rate else $3 end * elapsed) as filled,
         -- in proportion, so that two replicas of different versions may take turns
         $3::float8 * least(1, coalesce(rate / nullif(declared_rate, 0), 1) + elapsed / 1200) as climbed
  from old),
urgent as (
  select *, case when rest > 0 then 0 else least($6::integer, floor(filled))::integer end as for_urgent
  from full_now),
given as (
  select *, case when rest > 0 then 0
            else greatest(0, least($7::integer + least($8::integer, floor(climbed)),
                                   floor(filled - for_urgent - $5::float8)))::integer end as for_others
  from urgent),
taken as (
  update budget b
  set tokens = greatest(0, given.filled - given.for_urgent - given.for_others), refilled_at = given.refilled_at,
      rate = given.climbed, declared_rate = $3, burst = $4
  from given
  where b.credential = given.credential and b.scope = given.scope and given.for_urgent + given.for_others > 0)
select for_urgent, for_others, greatest(0, filled - for_urgent - for_others) as tokens, climbed as rate, rest from given

-- name: make_budget
-- A bucket that nobody used yet is full.
insert into budget (credential, scope, declared_rate, rate, burst, tokens)
values ($1, $2, $3, $3, $4, $4) on conflict do nothing

-- name: slow_down
-- The tracker said: slow down. The scope is empty until then and goes at half its rate afterwards, halved once for all
-- the answers that come while it waits. No destination of the credential is worked meanwhile, by any replica.
with slowed as (
  insert into budget as b (credential, scope, declared_rate, rate, burst, tokens, refilled_at, limited_until, limited_count)
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
held as materialized (
  select s.destination_id from destination_state s, slowed
  where s.credential = slowed.credential or s.destination_id = $6 order by s.destination_id for update of s)
update destination_state s set blocked_until = greatest(s.blocked_until, now() + $5::interval)
from held where s.destination_id = held.destination_id
returning s.destination_id

-- name: standing
-- Every budget as it is now, and the destinations that share it.
select b.scope, array_remove(array_agg(d.slug order by d.slug), null) as destinations,
       least(b.burst, b.tokens + b.rate * greatest(0, extract(epoch from now() - b.refilled_at)))::float8 as tokens, b.burst,
       least(b.declared_rate, b.rate + b.declared_rate
                              * greatest(0, extract(epoch from now() - b.refilled_at)) / 1200)::float8 as rate,
       b.declared_rate, case when b.limited_until > now() then b.limited_until end as limited_until, b.limited_count
from budget b
left join destination_state s on s.credential = b.credential
left join destination d on d.id = s.destination_id and d.retired_at is null
group by b.credential, b.scope order by 2, 1

-- name: note_credentials
-- Which destinations share a credential.
update destination_state s set credential = now_is.credential
from unnest($1::integer[], $2::bytea[]) as now_is (id, credential)
where s.destination_id = now_is.id and s.credential is distinct from now_is.credential
returning s.destination_id

-- name: forget_budgets
-- The budgets of credentials that no destination uses any more.
delete from budget b
where b.refilled_at < now() - interval '1 day'
  and not exists (select from destination_state s where s.credential = b.credential)
