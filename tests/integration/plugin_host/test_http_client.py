"""The HTTP client against real servers on loopback: requests, responses, and refused requests."""

import asyncio
import base64
import contextlib
import gzip
import ipaddress
import json
import socket

import aiohttp
import pytest
from aiohttp import web

from pointsman.plugin_api import Connection, Refused, Secret, Unavailable, UnknownOutcome
from pointsman.plugin_host import http_client as module
from pointsman.plugin_host.egress_policy import EgressPolicy
from pointsman.plugin_host.http_client import HttpClient, track_writes

LOOPBACK = EgressPolicy(networks=(ipaddress.ip_network("127.0.0.0/8"),))
TOKEN = "token of-the-tests"


@contextlib.asynccontextmanager
async def serving(handler=None):
    """Run a server that records requests; yield its URL and the requests."""
    seen = []

    async def handle(request):
        await request.read()
        seen.append(request)
        return await handler(request) if handler else web.json_response({"ok": True})

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        port = site._server.sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}", seen
    finally:
        await runner.cleanup()


@contextlib.asynccontextmanager
async def saying(*pieces, then="close", waits=True):
    """A server that answers any request with these bytes and then closes, resets or stays silent."""
    connections = []

    async def handle(reader, writer):
        connections.append(writer)
        with contextlib.suppress(ConnectionError):
            if waits:
                await reader.readuntil(b"\r\n\r\n")
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
            if then == "silence":
                await reader.read()
            elif then == "reset":
                linger = b"\x01\x00\x00\x00\x00\x00\x00\x00"
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for writer in connections:
            writer.close()
        await asyncio.sleep(0)


@contextlib.asynccontextmanager
async def client(base, policy=LOOPBACK, *, seconds=5.0, headers=None):
    """A client of a destination with a credential."""
    sent = {"Authorization": Secret(TOKEN)} if headers is None else headers
    http_client = HttpClient(Connection(base_url=base, headers=sent), policy, timeout_seconds=seconds)
    try:
        yield http_client
    finally:
        await http_client.close()


# -- requests and responses ------------------------------------------------------------------------------------------


async def test_a_request_goes_below_the_base_address_with_the_credential_and_json():
    async def echo(request):
        body = await request.json()
        return web.json_response({"said": body}, status=201, headers={"X-Request-Id": "7"})

    async with serving(echo) as (url, seen), client(f"{url}/api/v1/") as http:
        answer = await http.request(
            "POST", "/repos/a/b", json={"text": "\ud800é"}, params={"page": 2}, headers={"X-More": "1"}
        )
    (request,) = seen
    assert (request.method, request.path_qs) == ("POST", "/api/v1/repos/a/b?page=2")
    assert request.headers["Authorization"] == TOKEN
    assert request.headers["X-More"] == "1"
    assert request.headers["Content-Type"] == "application/json"
    assert (answer.status, answer.method, answer.path) == (201, "POST", "/api/v1/repos/a/b")
    assert answer.headers["x-request-id"] == "7"
    assert json.loads(answer.body) == {"said": {"text": "\ud800é"}}


@pytest.mark.parametrize("status", [204, 304, 400, 401, 404, 422, 429, 500, 503])
async def test_answers_of_any_status_are_given_back(status):
    async def say(_):
        return web.Response(status=status)

    async with serving(say) as (url, _), client(url) as http:
        assert (await http.request("GET", "x")).status == status


async def test_a_compressed_answer_is_unpacked():
    async def say(_):
        return web.Response(body=gzip.compress(b"{}"), headers={"Content-Encoding": "gzip"})

    async with serving(say) as (url, _), client(url) as http:
        assert (await http.request("GET", "x")).body == b"{}"


async def test_cookies_are_not_kept():
    """A tracker must not tie two requests of ours together, nor a proxy fix us to one of its servers."""

    async def say(_):
        answer = web.Response()
        answer.set_cookie("session", "1")
        return answer

    async with serving(say) as (url, seen), client(url) as http:
        await http.request("GET", "x")
        await http.request("GET", "x")
    assert [request.headers.get("Cookie") for request in seen] == [None, None]


async def test_a_client_that_was_closed_opens_anew():
    async with serving() as (url, _), client(url) as http:
        await http.request("GET", "x")
        await http.close()
        assert (await http.request("GET", "x")).ok


# -- the credential goes to its origin only --------------------------------------------------------------------------


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirects_are_given_back_and_not_followed(status):
    async with serving() as (elsewhere, seen_elsewhere):

        async def say(_):
            return web.Response(status=status, headers={"Location": f"{elsewhere}/x"})

        async with serving(say) as (url, seen), client(url) as http:
            answer = await http.request("POST", "x", json={})
    assert (answer.status, answer.headers["location"]) == (status, f"{elsewhere}/x")
    assert (len(seen), len(seen_elsewhere)) == (1, 0)


async def test_a_full_address_on_the_same_origin_is_taken():
    async with serving() as (url, seen), client(f"{url}/api") as http:
        await http.request("GET", f"{url}/api/issues?page=2")
    assert [request.path_qs for request in seen] == ["/api/issues?page=2"]


async def test_nothing_is_sent_to_another_origin():
    async with serving() as (elsewhere, seen), client("http://tracker.test:1/api") as http:
        port = elsewhere.rpartition(":")[2]
        for address in (
            elsewhere,
            f"http://tracker.test:{port}/x",
            "https://tracker.test:1/x",
            f"http://tracker.test:1@127.0.0.1:{port}/x",
            f"http://127.0.0.1:{port}#@tracker.test:1/",
            f"http://127.0.0.1:{port}?@tracker.test:1/",
            f"http://127.0.0.1:{port}/@tracker.test:1/",
            "http://tracker.test.evil.test:1/x",
            "http:///x",
        ):
            with pytest.raises(Unavailable):
                await http.request("GET", address)
    assert seen == []


@pytest.mark.parametrize(
    "path",
    [
        "//{other}/x",
        "/\\{other}/x",
        "@{other}/x",
        ":@{other}/x",
        "HTTP://{other}/x",
        "\thttp://{other}/x",
        "x?next=http://{other}",
    ],
)
async def test_no_path_leads_to_another_origin(path):
    """A path may come from a tracker's answer, such as the link to the next page."""
    async with serving() as (elsewhere, seen_elsewhere), serving() as (url, seen), client(url) as http:
        await http.request("GET", path.format(other=elsewhere.partition("//")[2]))
    assert seen_elsewhere == []
    assert len(seen) == 1


@pytest.mark.parametrize(
    "address",
    ["http://{other}\\@{own}/", "http://{own}\\@{other}/", "http://{other}\t@{own}/", "http://x:y@{own}/"],
)
async def test_readers_of_addresses_that_disagree_do_not_leak_the_credential(address):
    async with serving() as (elsewhere, seen), serving() as (url, _), client(url) as http:
        own, other = (each_url.partition("//")[2] for each_url in (url, elsewhere))
        with contextlib.suppress(Unavailable, UnknownOutcome):
            await http.request("GET", address.format(own=own, other=other))
    assert seen == []


@pytest.mark.parametrize(
    "path",
    [
        "issues/../x",
        "issues/..",
        "./x",
        "issues/%2e%2E/x",
        "issues/.%2e",
        "..//{own}/x",
        "http://{own}/issues/../x",
    ],
)
async def test_a_path_with_a_step_of_dots_is_not_requested(path):
    """An id of untrusted origin may be two dots, which quoting leaves as they are: another path would be read."""
    async with serving() as (url, seen), client(url) as http:
        with pytest.raises(Refused, match="dots"):
            await http.request("GET", path.format(own=url.partition("//")[2]))
        await http.request("GET", "issues/...")
    assert len(seen) == 1


async def test_a_proxy_of_the_environment_is_not_used(monkeypatch):
    """It would see the credential, and the guard would judge the proxy's address."""
    async with serving() as (proxy, seen_proxy), serving() as (url, seen), client(url) as http:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy)
        monkeypatch.delenv("no_proxy", raising=False)
        await http.request("GET", "x")
    assert (len(seen), len(seen_proxy)) == (1, 0)


# -- failures: was anything sent? ------------------------------------------------------------------------------------


async def test_a_refused_connection_means_that_nothing_was_sent():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # bound and not listening
        async with client(f"http://127.0.0.1:{unused.getsockname()[1]}") as http:
            with pytest.raises(Unavailable):
                await http.request("POST", "x", json={})


async def test_a_name_that_nobody_knows_means_that_nothing_was_sent(monkeypatch):
    async def unknown(*_, **__):
        raise socket.gaierror(socket.EAI_NONAME, "unknown")

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", unknown)
    async with client("http://tracker.test") as http:
        with pytest.raises(Unavailable):
            await http.request("POST", "x", json={})


async def test_a_server_that_does_not_speak_tls_means_that_nothing_was_sent():
    plain = saying(b"HTTP/1.0 400 no\r\n\r\n", waits=False)
    async with plain as url, client(url.replace("http:", "https:")) as http:
        with pytest.raises(Unavailable):
            await http.request("POST", "x", json={})


HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"


@pytest.mark.parametrize(
    ("pieces", "then"),
    [
        ((), "close"),
        ((), "reset"),
        ((HEAD,), "close"),
        ((HEAD + b"Content-Length: 100\r\n\r\n{",), "close"),
        ((HEAD + b"Content-Length: 100\r\n\r\n{",), "reset"),
        ((HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\nabc",), "close"),
        ((HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",), "close"),
        ((HEAD + b"Content-Encoding: gzip\r\nContent-Length: 4\r\n\r\nabcd",), "close"),
        ((b"\x00\xff\x16 nonsense\r\n\r\n",), "close"),
        ((b"HTTP/1.1 200 OK\r\nX: " + b"a" * 100_000 + b"\r\n\r\n",), "close"),
    ],
)
async def test_an_answer_that_is_cut_or_broken_leaves_the_outcome_unknown(pieces, then):
    async with saying(*pieces, then=then) as url, client(url) as http:
        with pytest.raises(UnknownOutcome):
            await http.request("POST", "x", json={})


@pytest.mark.parametrize("pieces", [(), (HEAD,), (HEAD + b"Content-Length: 100\r\n\r\n{",)])
async def test_an_answer_that_does_not_come_in_time_leaves_the_outcome_unknown(pieces):
    async with saying(*pieces, then="silence") as url, client(url, seconds=0.15) as http:
        with pytest.raises(UnknownOutcome):
            await http.request("POST", "x", json={})


async def test_an_answer_that_trickles_is_cut_off_too():
    async def trickle(request):
        answer = web.StreamResponse()
        await answer.prepare(request)
        with contextlib.suppress(ConnectionError, asyncio.CancelledError):
            while True:
                await answer.write(b" ")
                await asyncio.sleep(0.02)

    async with serving(trickle) as (url, _), client(url, seconds=0.2) as http:
        with pytest.raises(UnknownOutcome):
            await asyncio.wait_for(http.request("GET", "x"), 3)


@pytest.mark.parametrize("packed", [False, True])
async def test_an_endless_answer_is_not_read_to_its_end(monkeypatch, packed):
    """The size limit counts the decompressed body."""
    monkeypatch.setattr(module, "RESPONSE_LIMIT", 100_000)

    def say(size):
        async def handle(_):
            body = b"x" * size
            if packed:
                return web.Response(body=gzip.compress(body), headers={"Content-Encoding": "gzip"})
            return web.Response(body=body)

        return handle

    async with serving(say(100_000)) as (url, _), client(url) as http:
        assert len((await http.request("GET", "x")).body) == 100_000
    async with serving(say(100_001)) as (url, _), client(url) as http:
        with pytest.raises(UnknownOutcome) as caught:
            await http.request("GET", "x")
    assert caught.value.status == 200


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
async def test_a_request_on_a_cut_kept_alive_connection_is_sent_once(method):
    """The server answers the first request of a connection, reads the second, and closes without an answer."""
    received = []

    async def handle(reader, writer):
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            first = True
            while head := await reader.readuntil(b"\r\n\r\n"):
                received.append(head.split(b" ")[0].decode())
                if not first or len(received) > 2:
                    break
                first = False
                writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
                await writer.drain()
        writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        async with client(url) as http:
            assert (await http.request("GET", "first")).status == 204
            with pytest.raises(UnknownOutcome):
                await http.request(method, "second")
    finally:
        server.close()
    assert received == ["GET", method]


@pytest.mark.parametrize("status", [200, 301, 400, 401, 500])
async def test_an_error_that_quotes_the_credential_is_masked(status):
    async def quote_request(request):
        sent = f"{request.headers['Authorization']} and {base64.b64encode(TOKEN.encode()).decode()}"
        more = request.headers["Private-Token"]
        return web.Response(status=status, text=f"[sha: {sent} {more}]", headers={"X-Echo": sent})

    async with serving(quote_request) as (url, _), client(url) as http:
        answer = await http.request("GET", "x", headers={"Private-Token": "a-token-of-this-call"})
    assert answer.body == b"[sha: *** and *** ***]"
    assert answer.headers["x-echo"] == "*** and ***"


async def test_data_of_a_successful_request_is_not_changed():
    async def say(_):
        return web.json_response({"title": TOKEN})

    async with serving(say) as (url, _), client(url) as http:
        assert (await http.request("GET", "x")).json() == {"title": TOKEN}


async def test_no_failure_tells_the_credential():
    messages = []
    async with saying() as cut, saying(then="silence") as silent:
        for base, seconds in ((cut, 5), (silent, 0.1), ("http://127.0.0.1:1", 5), ("http://[::1]:1", 5)):
            async with client(base, seconds=seconds) as http:
                with pytest.raises((Unavailable, UnknownOutcome)) as caught:
                    await http.request("POST", "x", json={})
                messages.append(repr(caught.value) + str(caught.value) + repr(http.__dict__))
    assert not [message for message in messages if "of-the-tests" in message]


# -- the guard, at connect time --------------------------------------------------------------------------------------

SPELLINGS = [
    *(
        "127.0.0.1",
        "0.0.0.0",
        "localhost",
        "LocalHost",
        "①②⑦.⓪.⓪.①",
        "127。0。0。1",
        "0x7f000001",
        "0x7f.0.0.1",
    ),
    *("[::1]", "[0:0:0:0:0:0:0:1]", "[::]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[::127.0.0.1]"),
    *("[0:0:0:0:0:ffff:127.0.0.1]", "[::ffff:0:127.0.0.1]", "[64:ff9b::7f00:1]", "[2002:7f00:1::]"),
    *("169.254.169.254", "0xa9fea9fe", "[::ffff:a9fe:a9fe]", "[64:ff9b::a9fe:a9fe]", "[fd00:ec2::254]"),
    *(
        "10.0.0.1",
        "192.168.0.1",
        "172.16.0.1",
        "100.64.0.1",
        "[fe80::1]",
        "[fc00::1]",
        "224.0.0.1",
        "255.255.255.255",
    ),
]
ODD = ["127.1", "127.0.1", "2130706433", "0177.0.0.1", "017700000001", "0", "2852039166"]
"""Old spellings of IPv4: refused as such before an address is looked at."""


@pytest.mark.parametrize("host", SPELLINGS + ODD)
async def test_no_spelling_of_a_private_or_special_address_is_connected_to(host):
    async with serving() as (url, seen):
        port = url.rpartition(":")[2]
        async with client(f"http://{host}:{port}", EgressPolicy(), seconds=2) as http:
            with pytest.raises(Unavailable) as caught:
                await http.request("GET", "x")
    assert seen == []
    if host in SPELLINGS:  # refused, not merely unreachable
        assert "POINTSMAN_OUTBOUND_ALLOW" in str(caught.value)


def resolving(monkeypatch, *addresses):
    """Names mean these addresses, one after the other."""
    left = list(addresses)

    async def resolve(host, port, **_):
        address = left.pop(0) if len(left) > 1 else left[0]
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        sockaddr = (address, port, 0, 0) if ":" in address else (address, port)
        return [(family, socket.SOCK_STREAM, 6, "", sockaddr)]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", resolve)


@pytest.mark.parametrize(
    "address", ["127.0.0.1", "169.254.169.254", "10.0.0.1", "::1", "::ffff:127.0.0.1", "fe80::1"]
)
async def test_a_name_with_a_private_address_is_refused_like_the_address(monkeypatch, address):
    resolving(monkeypatch, address)
    async with serving() as (url, seen):
        async with client(f"http://tracker.test:{url.rpartition(':')[2]}", EgressPolicy(), seconds=2) as http:
            with pytest.raises(Unavailable, match="POINTSMAN_OUTBOUND_ALLOW"):
                await http.request("GET", "x")
        assert seen == []


async def test_a_name_that_changes_its_address_is_judged_at_each_connection(monkeypatch):
    """The answer of the resolver is not trusted once for good: the address connected to is the one judged."""
    resolving(monkeypatch, "127.0.0.1", "127.0.0.2")
    only = EgressPolicy(networks=(ipaddress.ip_network("127.0.0.1/32"),))
    monkeypatch.setattr(aiohttp.connector._DNSCacheTable, "expired", lambda *_: True)

    async def goodbye(_):
        answer = web.json_response({})
        answer.force_close()
        return answer

    async with serving(goodbye) as (url, seen):
        async with client(f"http://tracker.test:{url.rpartition(':')[2]}", only, seconds=2) as http:
            assert (await http.request("GET", "x")).ok
            with pytest.raises(Unavailable, match="POINTSMAN_OUTBOUND_ALLOW"):
                await http.request("GET", "x")
        assert len(seen) == 1


async def test_a_named_host_may_live_on_a_private_address(monkeypatch):
    resolving(monkeypatch, "127.0.0.1")
    async with serving() as (url, seen):
        base = f"http://Forgejo.LAN:{url.rpartition(':')[2]}"
        async with client(base, EgressPolicy(hosts=frozenset({"forgejo.lan"}))) as http:
            assert (await http.request("GET", "x")).ok
    assert len(seen) == 1


async def test_a_write_whose_lease_is_over_when_its_bytes_would_leave_does_not_leave():
    """It may have waited long for a connection, or the whole process may have been paused."""
    async with serving() as (url, seen):
        client = HttpClient(Connection(base_url=url), LOOPBACK, timeout_seconds=5.0)
        asked = []

        def may():
            asked.append(len(seen))
            return len(asked) < 2  # still so for the headers, not for the body

        track_writes(may)
        with pytest.raises((Unavailable, UnknownOutcome)):
            await client.request("POST", "issues", json={"title": "late"})
        with pytest.raises(Unavailable, match="the lease expired before the request was sent"):
            await client.request("DELETE", "comments/1")
        assert asked == [0, 0, 0]
        assert seen == []
        assert (await client.request("GET", "issues")).status == 200
        track_writes()
        assert (await client.request("POST", "issues", json={"title": "in time"})).status == 200
        assert [request.method for request in seen] == ["GET", "POST"]
        await client.close()
