"""Answers that stream or are large pass; clients that leave disturb nobody."""

import asyncio
from typing import Any

import pytest

HEADERS = [(b"cache-control", b"max-age=60")]


def start(*more: tuple[bytes, bytes], **parts: Any) -> Any:
    return {"type": "http.response.start", "status": 200, "headers": [*HEADERS, *more], **parts}


def part(body: bytes, *, more: bool = False) -> Any:
    return {"type": "http.response.body", "body": body, "more_body": more}


def request(path: str = "/") -> Any:
    return {"type": "http", "method": "GET", "path": path, "query_string": b"", "headers": []}


async def ask(site: Any, receive: Any = None) -> list[Any]:
    """Return the messages of an answer."""
    said: list[Any] = []

    async def send(message: Any) -> None:
        said.append(message)

    await asyncio.wait_for(site(request(), receive, send), 30)
    return said


def test_stream(open_site: Any) -> None:
    """An answer without a length comes part by part, as it is made, and ends with its client."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert (await receive())["body"] == b""
        await send(start())
        await send(part(b"1", more=True))
        await asyncio.wait_for(seen.wait(), 30)  # until the client has the first part
        await send(part(b"2", more=True))
        assert (await receive())["type"] == "http.disconnect"

    async def receive() -> Any:
        return client.pop(0)

    async def send(message: Any) -> None:
        said.append(message)
        if message["type"] == "http.response.body":
            seen.set()

    async def visit() -> None:
        nonlocal seen, client, said
        async with open_site(app) as site:
            for _ in range(2):  # the second one knows that it is nothing to be stored
                seen, said = asyncio.Event(), []
                client = [
                    {"type": "http.request", "body": b"", "more_body": False},
                    {"type": "http.disconnect"},
                ]
                await asyncio.wait_for(site.site(request(), receive, send), 30)
                assert said == [start(), part(b"1", more=True), part(b"2", more=True)]

    seen: asyncio.Event
    client: list[Any]
    said: list[Any]
    asyncio.run(visit())


@pytest.mark.parametrize(
    ("messages", "stored"),
    [
        ([start((b"content-length", b"4")), part(b"ab", more=True), part(b"cd")], True),
        ([start(), part(b"abcd")], True),
        ([start(), part(b"ab", more=True), part(b"cd")], False),
        ([start((b"content-length", b"4")), part(b"ab", more=True), part(b"c")], False),
        ([start((b"content-length", b"9")), part(b"abcdefghi")], False),
        ([start(), part(b"abcdefghi")], False),
        ([start(trailers=True), part(b"abcd"), {"type": "http.response.trailers"}], False),
        ([start(), {"type": "http.response.pathsend", "path": "/x"}], False),
        ([start((b"content-length", b"x")), part(b"abcd")], True),
    ],
)
def test_what_is_stored(open_site: Any, messages: list[Any], stored: bool) -> None:
    """Whole answers of at most ``max_body`` bytes; all others come as they were sent."""
    runs = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        runs.append(scope)
        for message in messages:
            await send(message)

    async def visit() -> None:
        async with open_site(app, max_body=8) as site:
            for _ in range(3):
                said = await ask(site.site)
                if stored:
                    assert b"".join(one.get("body", b"") for one in said) == b"abcd"
                else:
                    assert said == messages
            assert len(runs) == (1 if stored else 3)

    asyncio.run(visit())


def test_leader_leaves(open_site: Any, answering: Any) -> None:
    """The request that runs the application is cancelled: others have the page of that run."""

    async def visit() -> None:
        app, began, gate = answering(), asyncio.Event(), asyncio.Event()

        async def slow(*asked: Any) -> None:
            began.set()
            await gate.wait()
            await app(*asked)

        async with open_site(slow) as site:
            leader = asyncio.create_task(ask(site.site))
            await began.wait()
            others = [asyncio.create_task(ask(site.site)) for _ in range(5)]
            await asyncio.sleep(0.2)
            leader.cancel()
            await asyncio.wait([leader])
            gate.set()
            answers = await asyncio.gather(*others)
            assert {answer[1]["body"] for answer in answers} == {b"page 1"}
            assert app.runs == 1

    asyncio.run(visit())


def test_everybody_leaves(open_site: Any) -> None:
    """A run that nobody waits for is cancelled; so is an answer that streams to nobody."""
    ended: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        try:
            if scope["path"] == "/stream":
                await send(start())
                await send(part(b"", more=True))
            began.set()
            await asyncio.Event().wait()
        finally:
            ended.append(scope["path"])
            over.set()

    async def visit() -> None:
        nonlocal began, over
        async with open_site(app) as site:
            for path in ("/", "/stream"):
                began, over = asyncio.Event(), asyncio.Event()

                async def send(_: Any) -> None:
                    pass

                leader = asyncio.create_task(site.site(request(path), None, send))
                await asyncio.wait_for(began.wait(), 30)
                leader.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await leader
                await asyncio.wait_for(over.wait(), 30)

    began: asyncio.Event
    over: asyncio.Event
    asyncio.run(visit())
    assert ended == ["/", "/stream"]


def test_tasks_behind_the_answer(open_site: Any) -> None:
    """A page is sent before the tasks that its application does behind it; their errors show."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(start())
        await send(part(b"page"))
        await asyncio.wait_for(sent.wait(), 30)
        raise ZeroDivisionError

    async def visit() -> None:
        nonlocal sent
        sent = asyncio.Event()

        async def send(message: Any) -> None:
            if message["type"] == "http.response.body":
                sent.set()

        async with open_site(app) as site:
            with pytest.raises(ZeroDivisionError):
                await site.site(request(), None, send)
            assert (await ask(site.site))[1]["body"] == b"page"

    sent: asyncio.Event
    asyncio.run(visit())
