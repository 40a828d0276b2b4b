"""What `cached` makes passes for the function: to inspect, to web frameworks, to pickle."""

import asyncio
import copy
import functools
import inspect
import pickle
import sys
import types
from collections.abc import AsyncIterator, Iterator

import pytest

from shardcache import AsyncShardCache, ShardCache, errors

NOWHERE = ["redis://127.0.0.1:1"]
SYNC = ShardCache(NOWHERE)
ASYNC = AsyncShardCache(NOWHERE)


@SYNC.cached(key="double:{number}")
def double(number: int) -> int:
    """Twice the number."""
    return 2 * number


@ASYNC.cached(key="double:{number}")
async def adouble(number: int) -> int:
    """Twice the number."""
    return 2 * number


class Shop:
    """Methods of every kind, in both colours."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Shop) and self.name == other.name

    def __hash__(self) -> int:
        return hash(self.name)

    @SYNC.cached(key="price:{self.name}:{item}")
    def price(self, item: str, *, net: bool = False) -> float:
        """What it costs."""
        return len(item) + 0.5 * net

    @ASYNC.cached(key="price:{self.name}:{item}")
    async def aprice(self, item: str, *, net: bool = False) -> float:
        """What it costs."""
        return len(item) + 0.5 * net

    @SYNC.cached(key="{cls.__name__}:{item}")
    @classmethod
    def above_class(cls, item: str) -> str:
        """Of the class."""
        return f"{cls.__name__}:{item}"

    @classmethod
    @SYNC.cached(key="{cls.__name__}:{item}")
    def below_class(cls, item: str = "none") -> str:
        """Of the class."""
        return f"{cls.__name__}:{item}"

    @SYNC.cached(key="{item}")
    @staticmethod
    def above_static(item: str) -> str:
        """Of nobody."""
        return item

    @staticmethod
    @SYNC.cached(key="{item}")
    def below_static(item: str) -> str:
        """Of nobody."""
        return item

    @ASYNC.cached(key="{cls.__name__}:{item}")
    @classmethod
    async def aabove_class(cls, item: str) -> str:
        """Of the class."""
        return f"{cls.__name__}:{item}"

    @classmethod
    @ASYNC.cached(key="{cls.__name__}:{item}")
    async def abelow_class(cls, item: str) -> str:
        """Of the class."""
        return f"{cls.__name__}:{item}"

    @ASYNC.cached(key="{item}")
    @staticmethod
    async def aabove_static(item: str) -> str:
        """Of nobody."""
        return item

    @staticmethod
    @ASYNC.cached(key="{item}")
    async def abelow_static(item: str) -> str:
        """Of nobody."""
        return item


@pytest.fixture(scope="module", autouse=True)
def here() -> Iterator[None]:
    """Let pickle find this module by its name, as it would in an application."""
    name = double.__module__
    before = sys.modules.get(name)
    module = types.ModuleType(name)
    module.__dict__.update(globals())
    sys.modules[name] = module
    yield
    if before is None:
        del sys.modules[name]
    else:
        sys.modules[name] = before


@pytest.mark.parametrize("name", ["price", "aprice"])
def test_methods_look_like_methods(name):
    """A method taken from its object has its metadata, and its signature without ``self``."""
    shop = Shop("one")
    bound = getattr(shop, name)
    # A tool that looks at the classes does not change what the method says of itself.
    assert not any(getattr(kind, "__annotations__", None) for kind in type(bound).__mro__)
    assert (bound.__name__, bound.__qualname__, bound.__doc__) == (
        name,
        f"Shop.{name}",
        "What it costs.",
    )
    assert (bound.__module__, bound.__self__ is shop, bound.__annotations__["return"]) == (
        __name__,
        True,
        float,
    )
    assert str(inspect.signature(bound)) == "(item: str, *, net: bool = False) -> float"
    assert (
        str(inspect.signature(getattr(Shop, name)))
        == "(self, item: str, *, net: bool = False) -> float"
    )
    assert inspect.unwrap(bound).__qualname__ == f"Shop.{name}"
    assert (bound == getattr(shop, name), bound == getattr(Shop("one"), name), bound == 1) == (
        True,
        False,
        False,
    )
    assert len({bound, getattr(shop, name)}) == 1
    assert f"Shop.{name}" in repr(bound)
    with pytest.raises(AttributeError):
        bound.nothing_of_that_name  # noqa: B018


@pytest.mark.parametrize("owner", [Shop, Shop("one")], ids=["class", "object"])
def test_class_and_static_methods_look_like_theirs(owner):
    """The class is not among the parameters, whichever decorator is the outer one."""
    kinds = ["above_class", "below_class", "above_static", "below_static"]
    for name in [*kinds, *(f"a{kind}" for kind in kinds)]:
        method = getattr(owner, name)
        assert list(inspect.signature(method).parameters) == ["item"]
        assert (method.__name__, method.__doc__) == (
            name,
            "Of the class." if "class" in name else "Of nobody.",
        )
        assert inspect.iscoroutinefunction(method) is (name not in kinds)


@pytest.mark.parametrize(
    "function",
    [
        adouble,
        Shop("one").aprice,
        Shop.aprice,
        Shop.aabove_class,
        Shop.abelow_class,
        Shop.aabove_static,
    ],
    ids=["function", "method", "method of class", "above class", "below class", "above static"],
)
def test_coroutine_functions_are_coroutine_functions(function):
    """Asyncio, inspect and partials of them agree; so does what they return."""
    assert inspect.iscoroutinefunction(function) is True
    assert inspect.iscoroutinefunction(functools.partial(function, 1)) is True
    if sys.version_info < (3, 14):  # deprecated there in favour of inspect's
        assert asyncio.iscoroutinefunction(function) is True


@pytest.mark.parametrize(
    "function",
    [double, Shop("one").price, Shop.price, Shop.above_class],
    ids=["function", "method", "method of class", "above class"],
)
def test_plain_functions_are_not(function):
    """A sync function must not be awaited."""
    assert inspect.iscoroutinefunction(function) is False


def test_fastapi_registers_methods():
    """FastAPI reads parameters by signature; its threads and tasks call what it was given."""
    fastapi = pytest.importorskip("fastapi")
    app, shop = fastapi.FastAPI(), Shop("one")
    app.get("/sync/{item}")(shop.price)
    app.get("/async/{item}")(shop.aprice)
    app.get("/class/{item}")(Shop.above_class)
    app.get("/depends")(_depending(fastapi))
    paths = app.openapi()["paths"]
    assert [
        (path, [p["name"] for p in op["get"]["parameters"]], op["get"]["description"])
        for path, op in paths.items()
    ] == [
        ("/sync/{item}", ["item", "net"], "What it costs."),
        ("/async/{item}", ["item", "net"], "What it costs."),
        ("/class/{item}", ["item"], "Of the class."),
        ("/depends", ["number"], "One that depends on what is cached."),
    ]


def _depending(fastapi):
    def route(found: int = fastapi.Depends(adouble)) -> int:
        """One that depends on what is cached."""
        return found

    return route


@pytest.mark.parametrize("function", [double, adouble], ids=["sync", "async"])
def test_pickled_by_reference(function):
    """A decorated function is pickled by name and found there; a copy is the same one."""
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        raw = pickle.dumps(function, protocol)
        assert (pickle.loads(raw) is function, b"127.0.0.1" in raw) == (True, False)
    assert (copy.copy(function) is function, copy.deepcopy([function])[0] is function) == (
        True,
        True,
    )


def test_methods_are_pickled_with_their_object():
    """As plain methods are."""
    shop = Shop("one")
    for bound in (shop.price, shop.aprice, Shop.above_class, Shop.aabove_class):
        back = pickle.loads(pickle.dumps(bound))
        assert (type(back), back.__self__, back.__func__) == (
            type(bound),
            bound.__self__,
            bound.__func__,
        )


def test_what_no_module_holds_is_not_pickled():
    """A function inside of another one has no name to be found by."""

    @SYNC.cached(key="k")
    def inner() -> int:
        return 1

    with pytest.raises((pickle.PicklingError, AttributeError), match="inner"):
        pickle.dumps(inner)


def _generator(user: int) -> Iterator[int]:
    yield user


async def _agenerator(user: int) -> AsyncIterator[int]:
    yield user


class _Rows:
    def __call__(self, user: int) -> Iterator[int]:
        yield user


@pytest.mark.parametrize("client", [SYNC, ASYNC], ids=["sync", "async"])
@pytest.mark.parametrize(
    "function",
    [_generator, _agenerator, functools.partial(_generator, user=1), _Rows()],
    ids=["sync", "async", "partial", "object"],
)
def test_generators_are_refused_at_decoration(client, function):
    """What they return can be read once only, and would be gone for the second caller."""
    with pytest.raises(errors.InvalidArgument, match="generator function"):
        client.cached(key="rows")(function)


def test_a_classmethod_around_it_cannot_give_the_wrong_key():
    """What is reached through a classmethod lacks the class since Python 3.13: it is refused."""
    if sys.version_info < (3, 13):
        assert Shop.below_class.key("pen") == "Shop:pen"
        return
    for name in ("key", "invalidate", "refresh"):
        with pytest.raises(errors.InvalidArgument, match="above classmethod"):
            getattr(Shop.below_class, name)("pen")


def test_calls_of_class_and_static_methods(colour, make):
    """Below or above, through the class or an object: the class that was used counts."""
    cache = make()
    target = getattr(cache, "_target", cache)

    def made(function):
        if target is cache:
            return function

        async def later(*args):
            return function(*args)

        later.__signature__ = inspect.signature(function)
        return later

    class Kind:
        above = target.cached(key="a:{cls.__name__}:{item}")(
            classmethod(made(lambda cls, item: [cls.__name__, item]))
        )
        below = classmethod(
            target.cached(key="b:{cls.__name__}:{item}")(
                made(lambda cls, item: [cls.__name__, item])
            )
        )
        static = target.cached(key="s:{item}")(staticmethod(made(lambda item: [item])))
        around = staticmethod(target.cached(key="r:{item}")(made(lambda item: [item])))

    class Child(Kind):
        pass

    def call(function, *args):
        return function(*args) if target is cache else cache._finish(function, *args)

    for owner in (Kind, Kind(), Child, Child()):
        kind = owner if isinstance(owner, type) else type(owner)
        assert [call(owner.above, 1), call(owner.below, 1)] == [[kind.__name__, 1]] * 2
        assert [call(owner.static, 1), call(owner.around, 1)] == [[1]] * 2
        assert owner.above.key(1) == f"a:{kind.__name__}:1"
        assert (owner.static.key(1), owner.around.key(1)) == ("s:1", "r:1")
    assert sorted(cache.scan()) == ["a:Child:1", "a:Kind:1", "b:Child:1", "b:Kind:1", "r:1", "s:1"]
