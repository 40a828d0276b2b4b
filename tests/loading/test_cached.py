"""`cached`: functions, methods, keys, and what is refused at decoration."""

import asyncio
import inspect

import pytest

from shardcache import LoadPolicy, errors


@pytest.fixture
def bare(cache):
    """The client itself, for decorating."""
    return getattr(cache, "_target", cache)


@pytest.fixture
def call(cache, is_async):
    """Call what was decorated, in either colour."""
    return (
        cache._finish if is_async else lambda function, *args, **kwargs: function(*args, **kwargs)
    )


@pytest.fixture
def made(is_async):
    """Make a function a coroutine function in the asyncio colour, its signature kept."""

    def make(function):
        if not is_async:
            return function

        async def later(*args, **kwargs):
            return function(*args, **kwargs)

        later.__signature__ = inspect.signature(function)
        later.__name__, later.__qualname__, later.__doc__ = (
            function.__name__,
            function.__qualname__,
            function.__doc__,
        )
        return later

    return make


def test_a_function(cache, bare, call, made) -> None:
    """However it is called, one key; `key`, `invalidate` and `refresh` take the same arguments."""
    calls = []

    def page(user: int, lang: str = "en") -> str:
        """A page."""
        calls.append((user, lang))
        return f"{user} in {lang}, {len(calls)}"

    cached = bare.cached(60, key="page:{user}:{lang}")(made(page))
    assert [
        call(cached, 1),
        call(cached, user=1),
        call(cached, 1, "en"),
        call(cached, 1, lang="de"),
    ] == [
        *["1 in en, 1"] * 3,
        "1 in de, 2",
    ]
    assert (cached.key(1), cached.__name__, cached.__doc__) == ("page:1:en", "page", "A page.")
    assert cache.get("page:1:en") == "1 in en, 1"
    assert call(cached.refresh, 1) == "1 in en, 3" == call(cached, 1)
    assert (call(cached.invalidate, 1), call(cached.invalidate, 1)) == (True, False)
    assert call(cached, 1) == "1 in en, 4"


def test_methods(bare, call, made) -> None:
    """Methods bind; the instance counts only where the template names it."""
    calls = []

    class Shop:
        def __init__(self, name):
            self.name = name

        def _price(self, item):
            calls.append((self.name, item))
            return f"{self.name}:{item}"

        price = bare.cached(key="price:{self.name}:{item}")(made(_price))

    def of_class(cls, item):
        return [cls.__name__, item]

    def of_nobody(item):
        return item

    Shop.of_class = bare.cached(key="class:{cls.__name__}:{item}")(classmethod(made(of_class)))
    Shop.of_nobody = bare.cached(key="static:{item}")(staticmethod(made(of_nobody)))

    class Branch(Shop):
        pass

    one, two = Shop("one"), Shop("two")
    assert [
        call(one.price, 1),
        call(one.price, item=1),
        call(two.price, 1),
        call(Shop.price, one, 1),
    ] == [
        "one:1",
        "one:1",
        "two:1",
        "one:1",
    ]
    assert (calls, one.price.key(1)) == ([("one", 1), ("two", 1)], "price:one:1")
    assert call(one.price.invalidate, 1) is True
    assert call(two.price.refresh, 1) == "two:1"
    assert [call(Shop.of_class, 1), call(one.of_class, 1), call(Branch.of_class, 1)] == [
        ["Shop", 1]
    ] * 2 + [["Branch", 1]]
    assert [call(Shop.of_nobody, 1), call(one.of_nobody, 1)] == [1, 1]
    assert Branch.of_class.key(1) == "class:Branch:1"


def test_tags(cache, bare, call, made) -> None:
    """Templates too."""
    calls = []
    cached = bare.cached(key="user:{user}", tags=("user:{user}", "users"))(
        made(lambda user: calls.append(user) or len(calls))
    )
    assert [call(cached, 1), call(cached, 2), call(cached, 1)] == [1, 2, 1]
    cache.invalidate_tags(["user:1"])
    assert [call(cached, 1), call(cached, 2)] == [3, 2]
    assert call(cached.refresh, 2) == 4
    cache.invalidate_tags(["users"])
    assert [call(cached, 1), call(cached, 2)] == [5, 6]


def add(a, b=2):
    return a + b


async def aadd(a, b=2):
    return a + b


def test_default_key(bare, call, is_async) -> None:
    """Made of the function's name and all arguments."""
    cached = bare.cached()(aadd if is_async else add)
    assert call(cached, 1) == 3
    assert cached.key(1) == cached.key(a=1, b=2) != cached.key(1, 3)


@pytest.mark.parametrize(
    "settings",
    [
        {"key": "user:{nobody}"},
        {"key": ""},
        {"key": "{user}{lang}"},
        {"key": "u:{user}", "tags": ["{nobody}"]},
        {"key": "u:{user}", "tags": "one"},
        {"key": "u:{user}", "ttl": "soon"},
        {"key": "u:{user}", "policy": "fast"},
    ],
    ids=repr,
)
def test_wrong_at_decoration(bare, made, settings) -> None:
    """At import, not at the first call."""
    with pytest.raises(errors.InvalidArgument):
        bare.cached(**settings)(made(lambda user, lang: (user, lang)))


def test_the_wrong_colour(cache, bare, is_async) -> None:
    """A coroutine function belongs to the asyncio client; no function is refused by both."""

    async def later():
        return 1

    if not is_async:
        with pytest.raises(errors.InvalidArgument, match="AsyncShardCache"):
            bare.cached(key="k")(later)
    with pytest.raises(errors.InvalidArgument):
        bare.cached(key="k")(5)


def test_policy_and_none(bare, call, made) -> None:
    """A policy of its own; None is kept; errors come out."""
    calls = []

    def find(user):
        calls.append(user)
        if user < 0:
            raise LookupError(user)

    cached = bare.cached(
        key="f:{user}", policy=LoadPolicy(negative_on=(LookupError,), negative_ttl=60)
    )(made(find))
    assert [call(cached, 1), call(cached, 1)] == [None, None]
    with pytest.raises(LookupError):
        call(cached, -1)
    with pytest.raises(errors.NegativeHit):
        call(cached, -1)
    assert calls == [1, -1]


def test_coroutine_function(bare, is_async) -> None:
    """What asyncio and frameworks ask of a function."""
    if is_async:

        async def later():
            return 1

        cached = bare.cached(key="k")(later)
        assert (
            asyncio.iscoroutinefunction(cached) or inspect.iscoroutinefunction(cached.__call__)
        ) is True
    assert (
        list(inspect.signature(bare.cached(key="{a}")(lambda a, b=1: a)).parameters) == ["a", "b"]
        or is_async
    )


def test_arguments_too_long_for_a_key(cache, bare, call, made) -> None:
    """A result of arguments too long for a key is kept, refreshed and deleted under a digest."""
    calls = []

    def page(text: str) -> int:
        calls.append(text)
        return len(calls)

    long = "x" * 100_000
    cached = bare.cached(60, key="page:{text}")(made(page))
    assert (call(cached, long), call(cached, long), cache.get(cached.key(long))) == (1, 1, 1)
    assert (call(cached, long + "y"), call(cached.refresh, long), call(cached, long)) == (2, 3, 3)
    assert (call(cached.invalidate, long), call(cached, long)) == (True, 4)
