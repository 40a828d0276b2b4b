"""The login of a connection: user and password of the address, or those of a credential provider.

Providers are those of redis-py (`redis.credentials`). They have ``get_credentials``, or
``get_credentials_async`` for an event loop; a provider that renews its tokens also has ``on_next``.
An error of a provider makes its shards unavailable: `ShardUnavailable`, with the provider's own
error as the cause. The message names only the type of that error, because its text may hold a
secret that must not be in a log (G7).
"""

import asyncio
import inspect
import weakref
from collections.abc import Callable, Generator
from typing import Any, Protocol

from shardcache.errors import ShardUnavailable
from shardcache.events import Hook, log
from shardcache.urls import Address
from shardcache.wire.shared_call import NotBegun, NotInTime, SharedCall

__all__ = ("Credentials", "Login", "Renewed", "subscribe")

_STEP = "asking the credential provider"
Login = tuple[bytes, ...]  # what AUTH takes: a password, or a user and a password; empty: no login


class Credentials:
    """The login of one shard, asked for anew for each connection."""

    __slots__ = ("_call", "_hook", "_login", "_provider", "_shard")

    def __init__(
        self, shard: str, address: Address, provider: Any, hook: Hook | None = None
    ) -> None:
        self._shard = shard
        self._hook = hook
        self._provider = provider
        self._call = None if provider is None else _of(provider).call
        self._login: Login = ()
        if address.username is not None:
            self._login = (address.username.encode(), (address.password or "").encode())
        elif address.password:
            self._login = (address.password.encode(),)

    def get(self, deadline: float, clock: Callable[[], float]) -> Login:
        """Return the login.

        Raises `ShardUnavailable` if the provider has none, `NotInTime` if it takes too long,
        `NotBegun` if the system gives no thread.
        """
        if self._call is None:
            return self._login
        try:
            return _checked(
                self._call.get(self._provider.get_credentials, deadline, clock, self._hook)
            )
        except (NotBegun, NotInTime):
            raise
        except Exception as error:
            raise self._trouble(error) from error

    async def get_async(self, deadline: float) -> Login:
        """As `get`, on an event loop, which never waits for a provider that blocks."""
        if self._call is None:
            return self._login
        ask = _on_loop(self._provider)
        try:
            # A provider without a coroutine may block, so a thread asks it.
            if ask is None:
                return _checked(
                    await self._call.get_async(self._provider.get_credentials, deadline, self._hook)
                )
            limit = asyncio.timeout_at(deadline)
            try:
                async with limit:
                    return _checked(await ask())
            except TimeoutError:
                if limit.expired():
                    raise NotInTime(_STEP) from None
                raise
        except (NotBegun, NotInTime):
            raise
        except asyncio.CancelledError as error:
            # If nobody cancelled this task, something inside the provider was cancelled.
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            raise self._trouble(error) from error
        except Exception as error:
            raise self._trouble(error) from error

    def _trouble(self, error: BaseException) -> ShardUnavailable:
        said = str(error) if isinstance(error, _NoLogin) else f"it raised {type(error).__name__}"
        return ShardUnavailable(self._shard, f"the credential provider has no credentials: {said}")


class _NoLogin(TypeError):
    """A provider returned what AUTH cannot take."""


def _checked(found: Any) -> Login:
    """Return what a provider said as a login; a user name of None is left out."""
    if inspect.iscoroutine(found):
        found.close()  # it will not be awaited
        raise _NoLogin(
            "get_credentials is a coroutine function, which only the asyncio client can use"
        )
    if isinstance(found, (tuple, list)) and len(found) in (1, 2):
        login = found[1:] if len(found) == 2 and found[0] is None else found
        if all(isinstance(part, (str, bytes)) for part in login):
            return tuple(part.encode() if isinstance(part, str) else part for part in login)
    raise _NoLogin(
        "it must return (password,) or (user, password), "
        f"and returned another {type(found).__name__}"
    )


def _on_loop(provider: Any) -> Callable[[], Any] | None:
    """Return the method of ``provider`` that an event loop can await, if it has one of its own."""
    ask: Any = getattr(provider, "get_credentials_async", None)
    # redis-py's base class has one that calls get_credentials() on the loop, and warns.
    if ask is not None and getattr(ask, "__module__", "") + ask.__qualname__ != (
        "redis.credentialsCredentialProvider.get_credentials_async"
    ):
        found: Callable[[], Any] = ask
        return found
    plain: Any = getattr(provider, "get_credentials", None)
    return plain if inspect.iscoroutinefunction(plain) else None


class Renewed(Protocol):
    """A listener that is told of renewed credentials, in the thread in which they are renewed.

    It must not raise.
    """

    def reauthenticate(self, login: Login) -> None: ...


class _Provider:
    """What this process knows of one provider: its running call, and the listeners to renewals."""

    def __init__(self) -> None:
        self.call: SharedCall[Any] = SharedCall(_STEP)
        self.listeners: weakref.WeakSet[Renewed] = weakref.WeakSet()
        self.subscribed = False

    def on_next(self, token: Any) -> "_Done":
        """Tell each listener of a token, which is redis-py's `TokenInterface`, or a login."""
        try:
            if hasattr(token, "get_value"):
                token = (token.try_get("oid"), token.get_value())
            login = _checked(token)
        except Exception as error:  # noqa: BLE001  open connections keep the login they have
            log.warning("renewed credentials cannot be used: %s", _describe(error))
            return _Done()
        for listener in list(self.listeners):
            listener.reauthenticate(login)
        return _Done()

    def on_error(self, error: Any) -> "_Done":
        log.warning(
            "the credential provider could not renew its credentials: %s", type(error).__name__
        )
        return _Done()


class _Done:
    """Nothing more to wait for: some providers await what a callback returns, others do not."""

    def __await__(self) -> Generator[Any, None, None]:
        yield from ()


def _describe(error: Exception) -> str:
    return (
        str(error) if isinstance(error, _NoLogin) else f"reading them raised {type(error).__name__}"
    )


_providers: "weakref.WeakKeyDictionary[Any, _Provider]" = weakref.WeakKeyDictionary()


def _of(provider: Any) -> _Provider:
    try:
        return _providers.setdefault(provider, _Provider())
    except TypeError:  # it has no hash, or takes no weak references
        return _Provider()


def subscribe(provider: Any, listener: Renewed) -> None:
    """Tell ``listener`` of the credentials that a streaming provider renews.

    The provider holds the listener weakly. It has one callback only, so all clients of this
    process share it.
    """
    if not callable(getattr(provider, "on_next", None)):
        return
    known = _of(provider)
    known.listeners.add(listener)
    if not known.subscribed:
        known.subscribed = True
        provider.on_next(known.on_next)
        if callable(getattr(provider, "on_error", None)):
            provider.on_error(known.on_error)
