"""One Redis or Valkey server in a container of this machine, with what a test does to it."""

import time
import uuid
from contextlib import suppress
from typing import Any

import redis

from shardcache.embedded.ports import reserve_port
from shardcache.errors import ServerNotStarted

__all__ = ("DEFAULT_IMAGE", "ContainerServer")

DEFAULT_IMAGE = "valkey/valkey:8"
LONG = 30.0  # seconds until the server answers; an image that is not here is pulled before
POLL = 0.02
OPTIONS = ("--save", "", "--appendonly", "no", "--protected-mode", "no")


class ContainerServer:
    """A server in a container, at a port of 127.0.0.1 that stays the same until `close`.

    ``name``: its name, which becomes that of the shard.
    ``image``: the image; its command is the server program.
    ``program``: the name of the server program in it.

    Needs testcontainers (the extra ``containers``) and a container engine. Raises
    `ServerNotStarted` if there is none, or if the server does not answer.
    """

    def __init__(self, name: str, image: str, program: str) -> None:
        try:
            from docker.errors import DockerException
            from testcontainers.core.container import DockerContainer
        except ImportError as error:
            raise ServerNotStarted(
                "servers in containers need testcontainers: pip install 'shardcache[containers]'"
            ) from error
        self.name = name
        # A port that the engine chose would be another one after each restart. This one is kept
        # from other programs also while the server is down.
        self.port, self._holder = reserve_port()
        label = f"shardcache-{uuid.uuid4().hex[:12]}"
        self._owner: Any = None
        try:
            self._owner = DockerContainer(image, name=label)
            self._owner.with_command([program, *OPTIONS])
            # Ports given by the method for it would be open to the network.
            self._owner.ports["6379/tcp"] = ("127.0.0.1", self.port)
            self._owner.start()
        except DockerException as error:
            self._holder.close()
            if self._owner is not None:
                self._remove(label, DockerException)
            raise ServerNotStarted(f"no container of {image!r} was started: {error}") from error
        self._container: Any = self._owner.get_wrapped_container()
        self._wait()

    @property
    def url(self) -> str:
        """The URL of the server."""
        return f"redis://127.0.0.1:{self.port}/0"

    def kill(self) -> None:
        """End the server as a crash would (SIGKILL)."""
        self._container.kill()
        self._container.wait()

    def restart(self) -> None:
        """Start the server again, empty, at the same address, after `kill`."""
        self._container.start()
        self._wait()

    def pause(self) -> None:
        """Pause the server: connections stay open, and nothing is answered."""
        self._container.pause()

    def resume(self) -> None:
        """Let a paused server go on."""
        self._container.unpause()

    def close(self) -> None:
        """Remove the container, whatever state it is in."""
        self._owner.stop(force=True)
        self._holder.close()

    def _remove(self, label: str, refused: type[Exception]) -> None:
        """Remove a container that was created and did not start."""
        with suppress(refused):
            self._owner.get_docker_client().client.containers.get(label).remove(force=True)

    def _wait(self) -> None:
        end = time.monotonic() + LONG
        while True:
            with suppress(redis.RedisError), redis.Redis(port=self.port) as client:
                if client.ping():
                    return
            if time.monotonic() > end:
                self.close()
                raise ServerNotStarted(f"server {self.name!r} did not answer within {LONG:g} s")
            time.sleep(POLL)
