"""The list of faults and the table of correct outcomes: what may have been done is never called certainly not done."""

from __future__ import annotations

import itertools

import pytest

from pointsman.domain.retry_policy import Outcome
from pointsman.testing.conformance.faults import (
    STATUSES,
    Content,
    FaultCase,
    RequestRole,
    all_faults,
    correct_outcomes,
    faults_for,
    standard_faults,
)

EVERY = list(all_faults())


def test_the_full_list_holds_the_everyday_one_and_the_whole_product():
    assert set(standard_faults()) <= set(EVERY)
    assert len(EVERY) == len(set(EVERY))
    product = itertools.product(STATUSES, ("before", "after", "late", "too late"))
    for (status, when), content in itertools.product(product, set(Content) - {Content.BIG, Content.ERROR}):
        assert FaultCase(timing=when, status=status, content=content) in EVERY
    assert len(STATUSES) == 25


def test_every_trouble_has_a_name_of_its_own():
    names = [str(item) for item in standard_faults()]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("place", RequestRole)
@pytest.mark.parametrize("creates", [True, False])
@pytest.mark.parametrize("idempotent", [True, False])
@pytest.mark.parametrize("names_issue", [True, False])
def test_the_table_knows_an_answer_to_everything(place, creates, idempotent, names_issue):
    for fault_case in EVERY:
        assert correct_outcomes(
            fault_case, place, creates=creates, idempotent=idempotent, names_issue=names_issue
        )


@pytest.mark.parametrize("creates", [True, False])
def test_what_may_have_been_done_has_an_unknown_outcome(creates):
    for fault_case in EVERY:
        if fault_case.timing in ("after", "late", "too late") and not fault_case.is_misleading:
            matching = correct_outcomes(
                fault_case, RequestRole.EFFECT, creates=creates, idempotent=False, names_issue=True
            )
            assert matching == {Outcome.UNKNOWN}, str(fault_case)


def test_once_the_thing_is_made_every_outcome_is_unknown():
    for fault_case in EVERY:
        matching = correct_outcomes(
            fault_case, RequestRole.AFTER, creates=True, idempotent=False, names_issue=True
        )
        assert matching == {Outcome.UNKNOWN}, str(fault_case)


def test_where_nothing_takes_effect_before_and_after_are_the_same():
    fault_cases = list(standard_faults())
    assert faults_for(RequestRole.EFFECT, fault_cases) == fault_cases
    read = faults_for(RequestRole.READ, fault_cases)
    assert len(read) == len(set(read)) < len(fault_cases)
    assert {item.timing for item in read} == {"refused", "before", "late"}


def test_a_404_is_about_an_issue_only_where_the_address_names_it():
    fault_case = FaultCase(timing="before", status=404, content=Content.ERROR)
    named, other = (
        correct_outcomes(fault_case, RequestRole.READ, creates=False, idempotent=True, names_issue=names)
        for names in (True, False)
    )
    assert Outcome.ORPHAN in named
    assert Outcome.ORPHAN not in other
