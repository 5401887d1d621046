"""Redaction masks secrets, keeps other text readable, and takes time linear in the size."""

import re
import time

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pointsman.content.redaction.outgoing_filter import OutgoingFilter
from pointsman.content.redaction.patterns import lower_in_place
from pointsman.content.redaction.redact import (
    Profile,
    Redacted,
    _merge,
    placeholder,
    redact,
    redact_fact,
    sum_counts,
)
from text_corpus.seeded import Maker, clean, seeded

KEY = b"an installation's key for tests"
OTHER_KEY = b"the key of another installation"
QUICK = settings(deadline=None, max_examples=200)
PLACEHOLDER = re.compile(r"\[[a-z-]+ [0-9a-f]{6}\]")


def masked(text, profile=Profile.NORMAL):
    return redact(text, key=KEY, profile=profile)


def survives(secret, text):
    """Return whether a text still contains a secret, or half of a long secret."""
    halves = (secret[: len(secret) // 2], secret[len(secret) // 2 :]) if len(secret) >= 16 else ()
    return any(part in text for part in (secret, *halves))


# -- recall and precision ---------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("seed", [20260301, 7])
def test_of_two_thousand_secrets_hardly_one_leaves(seed):
    samples = seeded(2000, seed)
    left = [text for text, secret in samples if survives(secret, masked(text).text)]
    assert len(left) <= 0.01 * len(samples), left[:3]


@pytest.mark.slow
@pytest.mark.parametrize("profile", Profile)
@pytest.mark.parametrize("seed", [20260302, 8])
def test_of_five_hundred_clean_traces_hardly_one_is_touched(seed, profile):
    samples = clean(500, seed)
    touched = [(text, redacted.counts) for text in samples if (redacted := masked(text, profile)).counts]
    assert len(touched) <= 0.01 * len(samples), touched[:3]


def test_a_secret_among_secrets_is_found_as_well():
    """All secrets in one text, so that no rule cancels the match of another rule."""
    samples = seeded(300)
    text = masked("\n".join(sample for sample, _ in samples)).text
    assert (
        sum(survives(secret, text) for _, secret in samples) <= 6
    )  # "horse" and "12345678" stand elsewhere, too


# -- one by one ------------------------------------------------------------------------------------------------------

M = Maker(5)
OPAQUE = "f3b1c9d2e8a74560b1c9d2e8a7456f3b"


@pytest.mark.parametrize(
    ("kind", "text", "secret"),
    [
        ("password", "password=hunter2", "hunter2"),
        ("password", '{"user": {"db_password": "p\\"x y"}}', 'p\\"x y'),
        ("password", "{'newPassword': 'correct horse'}", "correct horse"),
        ("password", "postgres://app:p@ssw0rd@db/shop", "p@ssw0rd"),
        ("password", "postgres://app:pa/ss?w0rd@db/shop", "pa/ss?w0rd"),
        ("password", "my password is hunter2, thanks", "hunter2"),
        ("password", "Server=a;Password=abc;Port=1", "abc"),
        ("password", '"password": 123456', "123456"),
        ("token", "https://x.test/cb?token=abcdef&page=2", "abcdef"),
        ("token", "https://x.test/?next=%2Fcb%3Ftoken%3Dabcdef%26x", "abcdef"),
        ("token", 'SESSION = "aB3dE5fG7hJ9kL1mN3pQ5rS7"'.replace("SESSION", "FOO"), "aB3dE5fG7hJ9kL1mN3pQ5rS7"),
        ("key", f"X-Api-Key: {OPAQUE}", OPAQUE),
        ("key", f'<add key="ApiKey" value="{OPAQUE}"/>', OPAQUE),
        ("key", f"- name: API_KEY\n  value: {OPAQUE}", OPAQUE),
        ("secret", "<client_secret>abc def</client_secret>", "abc def"),
        ("secret", "tool --client-secret abcdef --x", "abcdef"),
        ("secret", 'secrets: ["abcdef"]', "abcdef"),
        ("cookie", "Cookie: a=b; c=d e\r\nHost: x", "a=b; c=d e"),
        ("authorization", f"Authorization: Bearer {OPAQUE}", OPAQUE),
        ("authorization", f"curl -H 'authorization: token {OPAQUE}' x", OPAQUE),
        ("session", f"PHPSESSID={OPAQUE}; x", OPAQUE),
        ("jwt", f"got {M.jwt()} here", None),
        ("private-key", f"read\n{M.pem()}\ndone", None),
        ("private-key", f"cut off\n{M.pem()[:300]}", None),
        ("aws-key", "AKIA" + M.of("ABCDEFGH234567", 16), None),
        ("github-token", "ghp_" + M.of("abcABC123", 36), None),
        ("gitlab-token", "glpat-" + M.of("abcABC123", 20), None),
        ("slack-token", "xoxb-" + M.of("0123456789", 24), None),
        ("stripe-key", "sk_live_" + M.of("abcABC123", 24), None),
        ("google-key", "AIza" + M.of("abcABC123", 35), None),
        ("twilio-key", "SK" + M.of("abcdef0123456789", 32), None),
        ("sendgrid-key", f"SG.{M.of('abcABC123', 22)}.{M.of('abcABC123', 43)}", None),
        ("npm-token", "npm_" + M.of("abcABC123", 36), None),
        ("pypi-token", "pypi-" + M.of("abcABC123", 90), None),
        ("azure-key", f"abc8Q~{M.of('abcABC123', 34)}", None),
        ("openai-key", "sk-proj-A1" + M.of("abcABC123", 44), None),
        ("telegram-token", f"1234567890:AA{M.of('abcABC123', 33)}", None),
        ("vault-token", "hvs." + M.of("abcABC123", 90), None),
        ("webhook-address", "https://hooks.slack.com/services/T0/B0/abcdefghijklmnopqrstu", "T0/B0/abcdefghijklmnopqrstu"),
        ("card", "paid with 4111 1111 1111 1111 today", "4111 1111 1111 1111"),
        ("card", "card=378282246310005", "378282246310005"),
        ("iban", "from DE89 3704 0044 0532 0130 00 to us", "DE89 3704 0044 0532 0130 00"),
    ],
)  # fmt: skip
def test_a_secret_becomes_a_placeholder_of_its_kind(kind, text, secret):
    redacted = masked(text)
    assert redacted.counts == {kind: 1}
    if secret:
        assert redacted.text == text.replace(secret, placeholder(kind, secret, KEY))
    else:
        assert len(PLACEHOLDER.findall(redacted.text)) == 1
        assert not re.search(r"\w{16}", redacted.text)


@pytest.mark.parametrize(
    "text",
    [
        "commit 3f2a91c0d4e5f60718293a4b5c6d7e8f90a1b2c3",
        "id=0192aaaa-0000-7000-8000-000000000000 sha256=" + "ab12" * 16,
        "img src=data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAUAAAAFCAYAAACNbyblAAAAHElEQVQI12P4",
        "Unexpected token: 'export' at 12:5",
        "password=None token='' secret=*** api_key=${API_KEY} x={{ password }}",
        "password=password, token=self.token, secret=get_secret(1), key=settings.SECRET_KEY",
        "password: str = Field(), token: Optional[str]",
        "PWD=/srv/app max_tokens=4096 token_type=bearer tokens: 512",
        "raise ValueError('token: ' + token)",
        "The password is required. Your token is invalid. Secret: none",
        "at com.acme.TokenFilter.doFilter(TokenFilter.java:55)",
        "SELECT token FROM t WHERE password = ? AND secret = :secret",
        "4111 1111 1111 1112 and 1234567890123456 and 1700000000000000000",
        "http://localhost:8080/a@b git+ssh://git@host/x https://x.test/@name",
        "AbstractSingletonProxyFactoryBean2Impl handler=AbstractUserDetailsAuthenticationProviderV2Adapter",
    ],
)
def test_what_is_no_secret_stays(text):
    assert masked(text) == Redacted(text, {})


@pytest.mark.parametrize(
    ("kind", "text", "data"),
    [
        ("email", "from ann.b+c@mail.example.test to", "ann.b+c@mail.example.test"),
        ("email", "?mail=ann%40example.test&x", "ann%40example.test"),
        ("address", "peer 192.168.10.20:443 left", "192.168.10.20"),
        ("address", "peer 2001:db8::8a2e:370:7334 left", "2001:db8::8a2e:370:7334"),
        ("user", 'File "/home/ann/app.py"', "ann"),
        ("user", r"C:\Users\Ann\x.py", "Ann"),
        ("phone", "call +49 170 1234567 now", "+49 170 1234567"),
        ("phone", "call (555) 867-5309 now".replace("(555) ", "555-"), "555-867-5309"),
    ],
)
def test_where_the_public_reads_personal_data_is_masked_too(kind, text, data):
    assert masked(text) == Redacted(text, {})
    redacted = masked(text, Profile.STRICT)
    assert redacted.counts == {kind: 1}
    assert redacted.text == text.replace(data, placeholder(kind, data, KEY))


def test_what_looks_like_personal_data_and_is_none_stays():
    text = (
        "127.0.0.1 0.0.0.0 ::1 Chrome/120.0.0.0 v1.2.3 std::vector a1::b2 10:30:45 2026-03-04 10:30:45.123"
        " /home/runner/x oauth2@v0.0.0-2026 @babel/core@7.24.0 1700000000 12-34"
    )
    assert masked(text, Profile.STRICT) == Redacted(text, {})


# -- placeholders ----------------------------------------------------------------------------------------------------


def test_the_same_secret_has_the_same_placeholder_within_an_installation_and_nowhere_else():
    first, same = masked("password=hunter2").text, masked("db: {'password': 'hunter2'}").text
    assert PLACEHOLDER.findall(first) == PLACEHOLDER.findall(same)
    assert masked("password=hunter3").text != first
    assert redact("password=hunter2", key=OTHER_KEY).text != first


def test_what_two_rules_find_is_masked_once():
    assert _merge([(3, 9, "b"), (0, 5, "a"), (9, 12, "c"), (1, 2, "d")]) == [(0, 9, "a"), (9, 12, "c")]


def test_what_looks_like_a_placeholder_hides_no_secret_beside_it():
    text = masked("Cookie: a=[token 3f2a91]; sid=hunter2").text
    assert "hunter2" not in text
    assert "[token 3f2a91]" in text


def test_a_placeholder_without_a_key_is_refused():
    with pytest.raises(ValueError, match="key"):
        redact("password=hunter2", key=b"")


def test_what_is_shown_of_a_result_holds_no_text():
    redacted = masked("hello hunter2 password=hunter3")
    assert "hunter" not in repr(redacted)
    assert "hello" not in str(redacted)
    assert repr(redacted) == "Redacted(40 characters, counts={'password': 1})"


pieces = st.sampled_from(
    [*(text for text, _ in seeded(150, 3)), *clean(40, 4), "password=", "token: '", "://", '"']
)


@QUICK
@given(st.lists(pieces | st.text(max_size=8), max_size=4).map("".join), st.sampled_from(Profile))
@example("password=[token 3f2a91]x", Profile.NORMAL)
@example("Cookie: a=[token 3f2a91]; b=hunter2", Profile.NORMAL)
@example("\u0130 password was hunter2 \u0130", Profile.STRICT)
def test_masking_twice_is_masking_once_and_counts_are_true(text, profile):
    once = masked(text, profile)
    assert masked(once.text, profile) == Redacted(once.text, {})
    before = len(PLACEHOLDER.findall(text))
    assert len(PLACEHOLDER.findall(once.text)) == before + sum(once.counts.values())


@QUICK
@given(st.text())
def test_any_text_can_be_looked_through(text):
    for profile in Profile:
        masked(text, profile)
    assert len(lower_in_place(text)) == len(text)


# -- facts -----------------------------------------------------------------------------------------------------------


def test_a_fact_with_a_name_that_tells_is_masked_whole():
    assert redact_fact("DB Password", " a b ", key=KEY).text == f" {placeholder('password', 'a b', KEY)} "
    assert redact_fact("password", "", key=KEY) == Redacted("", {})
    assert redact_fact("password", "None", key=KEY).counts == {}
    assert redact_fact("session", OPAQUE, key=KEY).counts == {"session": 1}
    assert redact_fact("session", "opened", key=KEY).counts == {}
    assert redact_fact("foo", "aB3dE5fG7hJ9kL1mN3pQ5rS7", key=KEY).counts == {"token": 1}
    assert redact_fact("release", "3f2a91c0d4e5f60718293a4b5c6d7e8f90a1b2c3", key=KEY).counts == {}
    assert redact_fact("url", "https://x.test/?token=abcdef", key=KEY).counts == {"token": 1}


def test_facts_are_counted_together():
    outgoing = OutgoingFilter(KEY, Profile.STRICT)
    facts = outgoing.facts(
        [("user", "ann@x.test"), ("token", "abc"), ("of password=hunter2", "x"), ("release", "1.2")]
    )
    counts = outgoing.masked
    assert counts == {"email": 1, "token": 1, "password": 1}
    assert facts[3] == ("release", "1.2")
    assert not any(secret in str(facts) for secret in ("ann", "abc", "hunter2"))
    assert sum_counts([counts, {"email": 2}, {}]) == {"email": 3, "token": 1, "password": 1}


# -- time ------------------------------------------------------------------------------------------------------------

HOSTILE = [
    *("a", "A", "9", "4", "_", "-", "=", ":", "'", '"', "\\", " ", "\t", "\n", "(", "[", "<", ".", "@"),
    *("a.", "a@", "a:", "a@a.a.", "::", "0:", "1.", "1.1.1.1.", "4 ", "4111 ", "+1", "(0", "a%40", "/home/"),
    *("password=", "password='", 'password="', "password=[", "password=['a',", "password={", "password=${", "password=("),
    *("password: string(", "password%3D", "%3D", "%22", "&quot;", "token: ", "cookie: ", "authorization: bearer "),
    *("authorization: none ", "bearer ", "basic ", "password is ", "password '", "login a password ", " -u a:", "--token "),
    *("name: a value: ", '"name":"token",', "<a>", "<password>", "</", "://", "http://a:", "http://u:p/", "http://user:pw/x"),
    *("-----BEGIN PRIVATE KEY-----", "-----BEGIN RSA PRIVATE KEY-----\nAAAA", "eyJ", "eyJaaaaaaaaa.", "sk-", "sk-a1"),
    *("ghp_", "glpat-", "xoxb-", "AIza", "SK", "Q~", "1234567890:AA", "webhook/", "DE12 ", "a1B2=", "x=a1B2c3D4e5F6g7H8i9J0"),
    "[token 3f2a91]",
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("piece", HOSTILE)
def test_time_grows_with_the_size_and_not_with_its_square(piece):
    """Eight times as much of the same thing takes about eight times as long, not sixty-four times."""

    def seconds(size):
        value = piece * (size // len(piece))
        best = float("inf")
        for _ in range(2):
            begun = time.process_time()
            masked(value, Profile.STRICT)
            best = min(best, time.process_time() - begun)
        return best

    small = max(seconds(2**12), 0.001)
    assert seconds(2**15) < 8 * small * 4
