"""A ticket's story as lines of text, for people."""

from __future__ import annotations

from collections.abc import Iterator

from pointsman.operations.explain.model import Place, Story, at


def lines(told: Story) -> Iterator[str]:
    """The story as lines of text."""
    if told.ticket:
        yield f"{told.ticket}  {told.status}  {told.title}"
        again = f", generation {told.generation}" if told.generation > 1 else ""
        yield f"  source {told.source}, seen {told.occurrences} times{again}, fingerprint {told.fingerprint}"
    yield from told.because
    if told.next:
        yield f"  next: {told.next}"
    yield "Reports and events (repeats that were only counted have no event)"
    for step in told.reports:
        yield f"  {at(step.at)}  {step.what}"
    if told.ticket:
        yield "Routes as they are now (a ticket keeps the destinations it got when it was opened)"
        yield from (f"  route {rule.position} {rule.says}" for rule in told.routes)
        if not told.routes:
            yield "  there are none"
    for place in told.places:
        yield from _place_lines(place)


def _place_lines(place: Place) -> Iterator[str]:
    yield f"{place.destination} ({place.tracker}): {f'{place.issue} {place.url}'.strip() or 'no issue yet'}"
    for one in place.deliveries:
        yield f"  {one.delivery} {one.kind}: {one.state}; {one.says}"
        if one.left_out:
            yield f"    {one.left_out} earlier attempts are left out"
        for step in one.attempts:
            times = f" ({step.times} times, the last at {at(step.until)})" if step.until is not None else ""
            yield f"    {at(step.at)}  {step.what}{times}{f'  {step.error}' if step.error else ''}"
    yield from (f"  waits: {each}" for each in place.waits_for)
    if place.next:
        yield f"  next: {place.next}"
