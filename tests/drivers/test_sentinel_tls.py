"""Sentinels over TLS: their certificate is checked as that of any shard."""

import shutil
import ssl
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from shardcache import TLS, Options
from shardcache.drivers.sentinel_source import SentinelSource
from shardcache.errors import DiscoveryFailed
from shardcache.topology.nodes import members
from shardcache.topology.sentinel_set import SentinelSet
from shardcache.url_options import read_url
from tests.hostile.sentinel import FakeSentinel

LONG = 20.0  # seconds: longer than anything takes


class SecureSentinel(FakeSentinel):
    """A Sentinel that speaks TLS."""

    def __init__(self, context: ssl.SSLContext) -> None:
        super().__init__({"a": ("10.0.0.1", 1, 1)})
        self._context = context

    def _serve(self, sock: Any) -> None:
        try:
            secure = self._context.wrap_socket(sock, server_side=True)
        except OSError:  # the client does not like the certificate
            sock.close()
            return
        self._open.add(secure)
        super()._serve(secure)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for localhost that is its own authority, with its key beside it."""
    if shutil.which("openssl") is None:
        pytest.skip("making a certificate takes the openssl program")
    folder = tmp_path_factory.mktemp("tls")
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt"),
            *("ec_paramgen_curve:prime256v1", "-nodes", "-keyout", "key.pem", "-out", "cert.pem"),
            *("-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"),
        ],
        cwd=folder,
        check=True,
        capture_output=True,
    )
    return folder / "cert.pem"


@pytest.fixture
def sentinel(certificate: Path) -> Iterator[SecureSentinel]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, certificate.with_name("key.pem"))
    with SecureSentinel(context) as made:
        yield made


def poll(url: str, **options: Any) -> Any:
    """Return the one node that the source names."""
    found = SentinelSet.of(read_url(url).urls)
    source = SentinelSource(
        found, Options(**options), timeout=LONG, clock=time.monotonic, random=lambda: 0.0
    )
    [node] = members(source())
    return node


def test_verified(sentinel: SecureSentinel, certificate: Path) -> None:
    """The authority of the URL is that of the Sentinels and of the masters."""
    url = (
        f"rediss+sentinel://localhost:{sentinel.address.port}?masters=a&ssl_ca_certs={certificate}"
    )
    node = poll(url)
    assert (node.address.tls, node.tls) == (True, TLS(ca_file=str(certificate)))


def test_authority_of_the_options(sentinel: SecureSentinel, certificate: Path) -> None:
    """So is that of the options; the masters may do without TLS."""
    node = poll(
        f"redis+sentinel://localhost:{sentinel.address.port}?masters=a&sentinel_tls=true",
        tls=TLS(ca_file=str(certificate)),
    )
    assert (node.address.tls, node.tls) == (False, None)


@pytest.mark.parametrize(
    ("host", "authority"), [("127.0.0.1", True), ("localhost", False)], ids=["host", "authority"]
)
def test_refused(sentinel: SecureSentinel, certificate: Path, host: str, authority: bool) -> None:
    """A certificate for another host, or of an unknown authority, is no Sentinel's."""
    query = f"&ssl_ca_certs={certificate}" if authority else ""
    with pytest.raises(DiscoveryFailed, match="certificate verify failed"):
        poll(f"rediss+sentinel://{host}:{sentinel.address.port}?masters=a{query}")
    assert sentinel.polls() == 0
