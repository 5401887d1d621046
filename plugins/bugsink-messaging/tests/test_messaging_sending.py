import dataclasses

import pytest

from pointsman_bugsink_messaging.sending import Failure, deliver, without_address

URL = "https://pointsman.example.com/intake/shop/the-token"


@dataclasses.dataclass
class Answer:
    status_code: int
    content: bytes = b""


class Place:
    """Where alerts are posted: each post takes its time and ends as it is told; the last telling stays."""

    def __init__(self, *ends, seconds=0.01):
        self.ends, self.seconds = list(ends), seconds
        self.now, self.tries = 100.0, 0

    def post(self):
        self.tries += 1
        self.now += self.seconds
        end = self.ends.pop(0) if len(self.ends) > 1 else self.ends[0]
        if isinstance(end, Exception):
            raise end
        return end

    def sleep(self, seconds):
        self.now += seconds

    def deliver(self):
        return deliver(self.post, URL, clock=lambda: self.now, sleep=self.sleep)


@pytest.mark.parametrize("status", [200, 202, 204])
def test_what_is_taken_is_posted_once(status):
    place = Place(Answer(status))
    assert place.deliver() is None
    assert place.tries == 1


@pytest.mark.parametrize(
    "end", [Answer(503), Answer(500), Answer(429), ConnectionError("refused"), OSError("reset")]
)
def test_what_fails_at_once_is_tried_three_times(end):
    place = Place(end, end, Answer(202))
    assert place.deliver() is None
    assert place.tries == 3
    place = Place(end)
    assert place.deliver() is not None
    assert place.tries == 3


@pytest.mark.parametrize(
    "end", [Answer(401), Answer(404), Answer(422), Answer(302), ValueError("forbidden"), KeyError("bug")]
)
def test_what_another_try_can_not_mend_is_not_tried_again(end):
    place = Place(end)
    assert place.deliver() is not None
    assert place.tries == 1


@pytest.mark.parametrize("seconds", [0.01, 0.3, 1.0, 2.4, 2.6, 4.0, 5.0])
def test_all_tries_end_within_eight_seconds(seconds):
    place = Place(OSError("slow"), seconds=seconds)
    place.deliver()
    assert place.now - 100.0 <= 8.0
    # even if the next try had taken all the time a try may take
    assert place.tries == 1 or place.now - seconds + 5.0 - 100.0 <= 8.0


def test_a_try_that_took_its_time_was_the_only_one():
    place = Place(TimeoutError("no answer"), seconds=5.0)
    assert place.deliver() == Failure(error_type="TimeoutError", error_message="no answer")
    assert place.tries == 1


def test_a_refusal_is_kept_with_what_was_said():
    payload = b'{"title": "unknown source"}' + b" " * 5000 + b"\0\xff"
    failure = Place(Answer(401, payload)).deliver()
    assert (failure.status_code, failure.error_type, failure.is_json) == (401, "HTTPError", False)
    assert failure.response_text == payload[:2000].decode()
    assert Place(Answer(401, b"{}")).deliver().is_json is True
    assert "redirects" in Place(Answer(302)).deliver().error_message


@pytest.mark.parametrize(
    ("url", "secret"),
    [
        (URL, "the-token"),
        ("https://bugsink:the-token@pointsman.example.com/intake/shop", "the-token"),
        ("https://pointsman.example.com/intake/shop?token=the-token", "the-token"),
        ("https://[broken/the-token", "the-token"),
    ],
)
def test_a_failure_does_not_tell_the_token(url, secret):
    where = url.partition("example.com")[2]
    message = f"{url} failed: Max retries exceeded with url: {where} (Caused by refused)"
    assert secret not in without_address(message, url)
    assert "Caused by refused" in without_address(message, url)
