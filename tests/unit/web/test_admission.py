"""Test the limits of admission control."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import time

import pytest

from pointsman.errors import Overloaded
from pointsman.web.admission import (
    AdmissionControl,
    AdmissionLimit,
    ConcurrencyLimit,
    MemoryBudget,
    MemoryReservation,
    RequestClass,
)
from pointsman.web.connection import ConnectionGuard
from pointsman.web.connection_manager import ConnectionManager


def test_an_admission_limit_admits_so_many_and_forgets_finished_requests():
    limit = AdmissionLimit("reports", 2)
    with limit:
        with contextlib.suppress(ZeroDivisionError), limit:
            assert limit.full
            with pytest.raises(Overloaded), limit:
                raise AssertionError("inside")
            raise ZeroDivisionError
        assert not limit.full
    assert limit.active == 0


def test_a_memory_budget_is_never_exceeded():
    budget = MemoryBudget("reports", 10)
    budget.reserve(10)
    with pytest.raises(Overloaded):
        budget.reserve(1)
    assert budget.used == 10


def test_one_client_has_a_share_of_a_memory_budget_and_others_the_rest():
    budget = MemoryBudget("webhooks", 10, client_share=4)
    ann, ben = map(ipaddress.ip_address, ("203.0.113.5", "203.0.113.6"))
    reservations = [MemoryReservation(client) for client in (ann, ben, None)]
    for reservation in reservations[:2]:
        reservation.reserve(budget, 3)
        with pytest.raises(Overloaded):
            reservation.reserve(budget, 2)
        reservation.reserve(budget, 1)
    reservations[2].reserve(budget, 2)
    assert budget.used == 10
    for reservation in reservations:
        reservation.release()
    assert budget.used == 0
    MemoryReservation(ann).reserve(budget, 4)


async def test_a_client_with_an_ipv6_network_has_as_many_connections_and_requests_as_one_address():
    manager = ConnectionManager(max_connections=1000, max_per_address=50)
    control = AdmissionControl(
        1000, pool_size=10, webhook_max_bytes=2**20, intake_max_bytes=2**20, max_per_address=50
    )
    with contextlib.ExitStack() as stack:
        refused = 0
        guards = []
        for number in range(1, 101):
            address = ipaddress.ip_address(f"2001:db8::{number:x}")
            guard = ConnectionGuard(manager)
            guard.address, guard.transport = address, object()
            guards.append(guard)
            try:
                stack.enter_context(control.admit(RequestClass.WEBHOOKS, address))
            except Overloaded:
                refused += 1
            assert manager.admit(guard) == ("" if number <= 50 else "too many per address")
        assert refused == 50
        other = ConnectionGuard(manager)
        other.address, other.transport = ipaddress.ip_address("2001:db8:0:1::1"), object()
        assert manager.admit(other) == ""
        for guard in guards:
            manager.remove(guard)
        assert manager.admit(guards[0]) == ""


async def test_a_concurrency_limit_has_slots_and_a_short_queue():
    limit = ConcurrencyLimit("questions", 1, 1, wait_seconds=0.05)
    async with limit.slot():
        waiting = asyncio.create_task(limit.slot().__aenter__())
        await asyncio.sleep(0)
        began = time.monotonic()
        with pytest.raises(Overloaded, match="already"):
            await limit.slot().__aenter__()
        with pytest.raises(Overloaded, match=r"0\.05 s"):
            await waiting
        assert time.monotonic() - began < 2.0
    assert limit.waiting == 0
    async with limit.slot():
        pass
