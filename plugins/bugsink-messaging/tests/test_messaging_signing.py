import base64

import pytest

from pointsman_bugsink_messaging import signing

# from the tests of the reference libraries, https://github.com/standard-webhooks/standard-webhooks
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
ID, TIME, BODY = "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}'
SIGNATURE = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_the_example_of_standard_webhooks():
    assert signing.signature(signing.key_of(SECRET), ID, TIME, BODY) == SIGNATURE
    assert signing.headers(signing.key_of(SECRET), ID, TIME, BODY) == {
        "Content-Type": "application/json",
        "webhook-id": ID,
        "webhook-timestamp": "1614265330",
        "webhook-signature": SIGNATURE,
    }


@pytest.mark.parametrize("changed", [(ID + "x", TIME, BODY), (ID, TIME + 1, BODY), (ID, TIME, BODY + b" ")])
def test_id_time_and_body_are_signed(changed):
    assert signing.signature(signing.key_of(SECRET), *changed) != SIGNATURE


def test_a_new_secret_is_one_and_new():
    item, other = signing.new_secret(), signing.new_secret()
    assert len(signing.key_of(item)) == 32
    assert item != other


@pytest.mark.parametrize(
    "secret",
    [
        "",
        "whsec_",
        "a secret",
        SECRET.removeprefix("whsec_"),
        SECRET[:-1],
        SECRET + "ü",
        "whsec_" + base64.b64encode(bytes(23)).decode(),
        "whsec_" + base64.b64encode(bytes(65)).decode(),
    ],
)
def test_what_is_no_secret_is_refused_with_the_cure(secret):
    with pytest.raises(ValueError, match="openssl rand -base64 32"):
        signing.key_of(secret)
