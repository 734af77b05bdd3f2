"""What a failing connection proves, met on real sockets: never sent, or perhaps done."""

import asyncio
import gzip
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import aiohttp
import httpx
import pytest

from local_stack.embedded_kafka import free_ports
from vault_core.clients.http_exchange import Answer, NoAnswer, NotSent, exchange
from vault_core.errors import ConfigurationError
from vault_core.http_pool import PooledClient, PooledTransport

Handle = Callable[[bytes, asyncio.StreamWriter], Awaitable[None]]
SECRET = "?query=254712000001"
AGENT = {"User-Agent": "payment-vault"}


@pytest.fixture(params=["past httpx", "through httpx"])
async def http(request) -> AsyncIterator[httpx.AsyncClient]:
    past = request.param == "past httpx"
    client = PooledClient(timeout=5) if past else httpx.AsyncClient(transport=PooledTransport(), headers=AGENT)
    async with client:
        yield client


class Seen:
    """The address of a server, and the requests that reached it."""

    def __init__(self) -> None:
        self.url = ""
        self.requests: list[bytes] = []
        self.connections = 0


@asynccontextmanager
async def serving(handle: Handle) -> AsyncIterator[Seen]:
    """A server that hands each request with a body of at most one packet to `handle`."""
    seen = Seen()
    open_ends: list[tuple[asyncio.StreamWriter, asyncio.Event]] = []

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.connections += 1
        ended = asyncio.Event()
        open_ends.append((writer, ended))
        try:
            while request := await reader.read(65536):
                seen.requests.append(request)
                await handle(request, writer)
        except ConnectionError:
            pass
        finally:
            writer.close()
            ended.set()

    async with await asyncio.start_server(connected, "127.0.0.1", 0) as server:
        seen.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        try:
            yield seen
        finally:
            for writer, ended in open_ends:
                writer.close()
                await asyncio.wait_for(ended.wait(), 5)


def says(answer: bytes) -> Handle:
    async def handle(_request: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(answer)

    return handle


async def hangs_up(_request: bytes, writer: asyncio.StreamWriter) -> None:
    writer.close()


async def says_nothing(_request: bytes, _writer: asyncio.StreamWriter) -> None:
    return


async def test_a_request_goes_out_as_it_was_made_and_its_answer_comes_back_decoded(http):
    body = gzip.compress(b'{"told": true}')
    head = b"HTTP/1.1 201 Created\r\nContent-Encoding: gzip\r\nX-Word: One\r\nContent-Length: %d\r\n\r\n" % len(body)
    async with serving(says(head + body)) as seen:
        headers = {"Authorization": "Basic abc", "Content-Type": "application/json"}
        done = await exchange(http, "POST", f"{seen.url}a%20b", timeout=5, headers=headers, params={"q": "x&y"}, content=b"{}")
    assert isinstance(done, Answer)
    assert (done.status, done.body, done.headers["x-word"]) == (201, b'{"told": true}', "One")
    (request,) = seen.requests
    sent, _, content = request.partition(b"\r\n\r\n")
    line, *lines = sent.decode().split("\r\n")
    fields = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    assert (line, content) == ("POST /a%20b?q=x%26y HTTP/1.1", b"{}")
    assert fields["authorization"] == "Basic abc"
    assert (fields["content-type"], fields["content-length"], fields["user-agent"]) == ("application/json", "2", "payment-vault")
    assert len(lines) == len(fields), "a header was sent twice"


async def test_connections_are_kept_and_no_cookie_or_redirect_is_followed(http):
    answer = b"HTTP/1.1 302 Found\r\nSet-Cookie: JSESSIONID=one\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n"
    async with serving(says(answer)) as seen:
        for _ in range(3):
            done = await exchange(http, "GET", seen.url, timeout=5)
            assert isinstance(done, Answer)
            assert done.status == 302
    assert (seen.connections, len(seen.requests)) == (1, 3)
    assert not any(b"cookie" in request.lower() for request in seen.requests)


async def test_what_never_left_is_told_as_not_sent(http):
    (closed,) = free_ports(1)
    for address in (f"http://127.0.0.1:{closed}/", "http://no-such-host.invalid/", "ftp://127.0.0.1/"):
        done = await exchange(http, "POST", address + SECRET, timeout=5, content=b"{}")
        assert isinstance(done, NotSent), address
        assert "254712" not in done.cause
    async with serving(says(b"no TLS here")) as seen:
        done = await exchange(http, "POST", seen.url.replace("http:", "https:"), timeout=5, content=b"{}")
    assert isinstance(done, NotSent)


async def test_a_header_that_cannot_be_written_is_not_sent(http):
    async with serving(says_nothing) as seen:
        done = await exchange(http, "POST", seen.url, timeout=5, headers={"Idempotency-Key": "a\r\nb"}, content=b"{}")
    assert isinstance(done, NotSent)
    assert seen.requests == []


@pytest.mark.parametrize(
    "handle",
    [
        hangs_up,
        says_nothing,
        says(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort"),
        says(b"nonsense\r\n\r\n"),
        says(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\nfour"),
    ],
    ids=["hangs up", "silence", "part of an answer", "no HTTP", "not gzip"],
)
async def test_a_lost_answer_of_a_write_is_no_answer_and_the_write_is_sent_once(http, handle):
    async with serving(handle) as seen:
        done = await exchange(http, "POST", seen.url + SECRET, timeout=1, content=b"{}")
        assert isinstance(done, NoAnswer)
        assert "254712" not in done.cause
        assert len(seen.requests) == 1


async def test_a_write_on_a_kept_connection_that_is_hung_up_on_is_not_repeated(http):
    answers = iter([b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"])

    async def once(_request: bytes, writer: asyncio.StreamWriter) -> None:
        if (answer := next(answers, None)) is None:
            writer.close()
        else:
            writer.write(answer)

    async with serving(once) as seen:
        assert isinstance(await exchange(http, "POST", seen.url, timeout=5, content=b"1"), Answer)
        assert isinstance(await exchange(http, "POST", seen.url, timeout=5, content=b"2"), NoAnswer)
    assert len(seen.requests) == 2


async def test_what_comes_unasked_is_not_the_answer_of_the_next_request(http):
    """A refusal told twice must not be the verdict on the next payout, which is made."""
    told = asyncio.Event()

    async def twice(request: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n" + request[-1:])
        await writer.drain()
        await asked.wait()  # the answer is read, its connection kept
        writer.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 5\r\n\r\nagain")
        told.set()

    async with serving(twice) as seen:
        for number in (b"1", b"2", b"3"):
            asked = asyncio.Event()
            told.clear()
            done = await exchange(http, "POST", seen.url, timeout=5, content=number)
            assert isinstance(done, Answer)
            assert (done.status, done.body) == (200, number)
            asked.set()
            await told.wait()


_BODY = 3_000_000  # more than a socket takes at once
_CALLS_AND_DIES = f"""
import asyncio, sys, uvloop
from vault_core import fault_points
from vault_core.clients.http_exchange import exchange
from vault_core.http_pool import PooledClient

async def main():
    async with PooledClient(timeout=5) as http:
        await exchange(http, "POST", sys.argv[3], timeout=30, content=b"x" * {_BODY})

fault_points.arm(fault_points.FaultPoint(sys.argv[1]))
{{"asyncio": asyncio, "uvloop": uvloop}}[sys.argv[2]].run(main())
"""


@pytest.mark.parametrize(
    ("moment", "loop", "arrived", "answered"),
    [
        ("before send", "asyncio", 0, False),
        ("after send", "asyncio", _BODY, False),
        ("after send", "uvloop", _BODY, False),
        ("after receive", "asyncio", _BODY, True),
    ],
)
async def test_a_process_dies_before_it_sends_when_all_has_left_and_when_it_has_its_answer(moment, loop, arrived, answered):
    received, told, ended = bytearray(), asyncio.Event(), asyncio.Event()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        while len(received) < _BODY and (part := await reader.read(65536)):
            received.extend(part)
        # The process that dies before its answer closes the connection by its death; the other one has to be answered.
        if answered or await reader.read():
            told.set()
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        writer.close()
        ended.set()

    async with await asyncio.start_server(connected, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/pay"
        process = await asyncio.create_subprocess_exec(sys.executable, "-c", _CALLS_AND_DIES, f"{moment} POST /pay", loop, url)
        assert await asyncio.wait_for(process.wait(), 60) == -signal.SIGKILL
        if arrived:
            await asyncio.wait_for(ended.wait(), 10)
    assert (len(received), told.is_set()) == (arrived, answered)


async def test_an_answer_that_makes_no_sense_to_us_is_no_answer_never_not_sent(http, monkeypatch):
    """Whatever fails once a request may have left: the payout may have been taken."""

    start = aiohttp.ClientResponse.start

    async def fails(answer: aiohttp.ClientResponse, connection: object) -> None:
        await start(answer, connection)
        raise ValueError("of a value in the answer")

    async with serving(says(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")) as seen:
        monkeypatch.setattr(aiohttp.ClientResponse, "start", fails)
        done = await exchange(http, "POST", seen.url, timeout=5, content=b"{}")
        assert isinstance(done, NoAnswer)
        assert len(seen.requests) == 1


@pytest.fixture
def proxied(monkeypatch) -> Callable[..., PooledClient]:
    """Makes clients in an environment that names proxies."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)

    def made(**environment: str) -> PooledClient:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        return PooledClient(timeout=5)

    return made


async def test_requests_go_through_the_proxy_that_the_environment_names(proxied):
    async with serving(says(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")) as proxy:
        address = proxy.url.removeprefix("http://").rstrip("/")
        async with proxied(HTTP_PROXY=f"http://vault:secret@{address}") as http:
            done = await exchange(http, "POST", "http://mifos.example/loans?query=1", timeout=5, content=b"{}")
    assert isinstance(done, Answer)
    (request,) = proxy.requests
    assert request.startswith(b"POST http://mifos.example/loans?query=1 HTTP/1.1")
    assert b"Proxy-Authorization: Basic dmF1bHQ6c2VjcmV0" in request


async def test_a_proxy_that_makes_no_tunnel_has_sent_nothing(proxied):
    forbids = says(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
    async with serving(forbids) as proxy, proxied(HTTPS_PROXY=proxy.url) as http:
        done = await exchange(http, "POST", "https://api.example/b2c", timeout=5, content=b"{}")
    assert isinstance(done, NotSent)
    assert "the proxy answered 403" in done.cause
    (request,) = proxy.requests
    assert request.startswith(b"CONNECT api.example:443 ")


async def test_no_proxy_is_between_us_and_what_is_excepted_or_on_this_machine(proxied):
    (closed,) = free_ports(1)
    async with (
        serving(says(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")) as seen,
        proxied(ALL_PROXY=f"http://127.0.0.1:{closed}", NO_PROXY="inside.example") as http,
    ):
        assert isinstance(await exchange(http, "GET", seen.url, timeout=5), Answer)
        direct = await exchange(http, "GET", "http://no-such-host.inside.example/", timeout=5)
        assert isinstance(direct, NotSent)
        assert "no-such-host" in direct.cause
        through = await exchange(http, "GET", "http://no-such-host.example/", timeout=5)
        assert isinstance(through, NotSent)
        assert "no-such-host" not in through.cause


@pytest.mark.parametrize("address", ["socks5://127.0.0.1:1080", "http://", "http://host:port"])
def test_a_proxy_that_cannot_be_used_is_refused_when_the_process_starts(proxied, address):
    with pytest.raises(ConfigurationError, match="HTTPS_PROXY"):
        proxied(HTTPS_PROXY=address)
