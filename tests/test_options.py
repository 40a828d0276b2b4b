"""Options: what each allows."""

import dataclasses
import math

import pytest

from shardcache import Options
from shardcache.errors import InvalidOption
from shardcache.options import TLS, check_on_unavailable, check_timeout

LIMITS = {
    "compress_min": (0, 2**31, True),
    "max_value": (1, 512 * 1024 * 1024, True),
    "max_idle": (0, 100_000, True),
    "failures": (1, 1000, True),
    "first_probe": (0.001, 2.0, False),
    "max_probe": (0.1, 3600, False),
}


@pytest.mark.parametrize("name", LIMITS)
def test_limits(name) -> None:
    """Both ends are allowed; what lies beyond is refused with name, range and what came."""
    low, high, whole = LIMITS[name]
    assert [getattr(Options(**{name: value}), name) for value in (low, high)] == [low, high]
    step = 1 if whole else 0.0005
    for value in (
        low - step,
        high * 2 + 7200,
        math.nan,
        math.inf,
        "1",
        None,
        True,
        [1],
        *([1.5] if whole else []),
    ):
        with pytest.raises(InvalidOption, match=f"{name} must be a .*number from .* to ") as caught:
            Options(**{name: value})
        assert repr(value) in str(caught.value)


def test_max_out() -> None:
    """The share that may be out is from none, which turns the breakers off, to all."""
    assert [Options(max_out=share).max_out for share in (0, 0.5, 1)] == [0, 0.5, 1]
    for value in (-0.1, 1.1, math.nan, "1"):
        with pytest.raises(InvalidOption, match="max_out must be a number from 0 to 1"):
            Options(max_out=value)


def test_probes_in_order() -> None:
    """The longest delay between probes is not shorter than the first."""
    with pytest.raises(InvalidOption, match="max_probe must be a number from 5 to 3600, got 2"):
        Options(first_probe=5)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("protocol", 4),
        ("protocol", "3"),
        ("placement", "random"),
        ("placement", None),
        ("read_from", "replicas"),
        ("read_from", None),
        ("on_event", "print"),
        ("tls", True),
        ("tls", {"verify": False}),
        ("client_name", "two words"),
        ("client_name", "é"),
        ("client_name", b"x"),
        ("client_name", "line\n"),
        ("credential_provider", ("user", "password")),
        ("credential_provider", lambda: ("user", "password")),
    ],
)
def test_refused(name, value) -> None:
    """A choice that does not exist is refused by name."""
    with pytest.raises(InvalidOption, match=f"{name} must (be|have)"):
        Options(**{name: value})


def test_secrets_stay_out_of_the_repr() -> None:
    """Signing keys and credential providers are not shown (G7)."""

    class Provider:
        def get_credentials(self) -> tuple[str]:
            return ("hunter2",)

        def __repr__(self) -> str:
            return "hunter2"

    provider = Provider()
    shown = repr(Options(signing_key=b"hunter2hunter2hunter2", credential_provider=provider))
    assert "hunter2" not in shown


def test_frozen() -> None:
    """Options do not change under the client that uses them."""
    with pytest.raises(dataclasses.FrozenInstanceError):
        Options().max_idle = 1  # type: ignore[misc]


def test_tls_verifies_by_default() -> None:
    """Nothing said means that certificate and host name are checked (G7)."""
    assert (TLS().verify, TLS().check_hostname, Options().tls) == (True, True, TLS())


@pytest.mark.parametrize("timeout", [0, -1, 0.0001, 3601, math.nan, math.inf, "1", None, True])
def test_timeout_refused(timeout) -> None:
    """A deadline is a number of seconds that a call can keep."""
    with pytest.raises(
        InvalidOption, match=r"timeout must be a number from 0\.001 to 3600"
    ) as caught:
        check_timeout(timeout)
    assert repr(timeout) in str(caught.value)


def test_timeout() -> None:
    """Whole seconds and fractions are taken."""
    assert [check_timeout(1), check_timeout(0.25)] == [1.0, 0.25]


@pytest.mark.parametrize("choice", ["DEGRADE", "", None, True, ["raise"]])
def test_policy_refused(choice) -> None:
    """There are two policies."""
    with pytest.raises(InvalidOption, match="'degrade' or 'raise', got"):
        check_on_unavailable(choice)
