"""Opening an asyncio connection: transport by the event loop, then the common handshake."""

import asyncio
import ssl
from collections.abc import Callable
from dataclasses import dataclass

from shardcache.flows.handshake import handshake
from shardcache.options import TLS, Options
from shardcache.urls import Address
from shardcache.wire.aio import AsyncLink
from shardcache.wire.link import pack_all

__all__ = ("AsyncDialer",)


@dataclass(frozen=True, slots=True)
class AsyncDialer:
    """Opens links to one shard."""

    shard: str
    address: Address
    options: Options

    async def __call__(
        self,
        deadline: float,
        timeout: float,
        on_end: Callable[[AsyncLink, Exception], None],
        on_room: Callable[[int], None],
    ) -> AsyncLink:
        """Return a link that is logged in and checked, by ``deadline`` of the loop's clock.

        Raises OSError where there is no connection, `ShardError` where the server says no.
        """
        loop = asyncio.get_running_loop()
        link = AsyncLink(self.shard, loop, timeout, on_end, on_room, self.options.max_value)
        address = self.address
        try:
            async with asyncio.timeout_at(deadline):
                if address.path:
                    await loop.create_unix_connection(lambda: link, address.path)
                else:
                    context = tls_context(self.options.tls) if address.tls else None
                    await loop.create_connection(lambda: link, address.host, address.port, ssl=context)
                steps = handshake(self.shard, address, self.options)
                commands = next(steps)
                while True:
                    replies = await link.send(pack_all(commands), len(commands), deadline)
                    commands = steps.send([replies] if len(commands) == 1 else replies)
        except RuntimeError as error:
            # Names are looked up in threads, and there may be none: as much a reason why there is no connection as any.
            link.end(error)
            await link.wait_closed()
            raise OSError(str(error)) from error
        except StopIteration as end:
            link.met(end.value)
            link.marked = self.options.echo_check
            link.used = False
            return link
        except BaseException as error:
            link.end(error if isinstance(error, Exception) else ConnectionError("connecting was broken off"))
            await link.wait_closed()
            raise


def tls_context(tls: TLS) -> ssl.SSLContext:
    """Return a context that verifies, unless ``tls`` says otherwise (G7)."""
    context = ssl.create_default_context(cafile=tls.ca_file)
    if tls.cert_file or tls.key_file:
        context.load_cert_chain(tls.cert_file or "", tls.key_file)
    context.check_hostname = tls.verify and tls.check_hostname
    context.verify_mode = ssl.CERT_REQUIRED if tls.verify else ssl.CERT_NONE
    return context
