"""The load policy: presets, and everything that cannot be is refused with what is allowed."""

import dataclasses
import pickle

import pytest

import shardcache
from shardcache.errors import InvalidOption
from shardcache.policy import LoadPolicy


def test_policy_is_public():
    """Users name it."""
    assert shardcache.LoadPolicy is LoadPolicy


def test_policy_is_frozen_and_comparable():
    """It can be shared, hashed, and sent to another process."""
    policy = LoadPolicy(stale_ttl=5)
    with pytest.raises(dataclasses.FrozenInstanceError):
        policy.stale_ttl = 6
    assert {policy: 1}[LoadPolicy(stale_ttl=5)] == 1
    assert pickle.loads(pickle.dumps(policy)) == policy


@pytest.mark.parametrize(
    ("name", "policy"),
    [
        (None, LoadPolicy()),
        ("simple", LoadPolicy.simple()),
        ("swr", LoadPolicy.swr()),
        ("strict", LoadPolicy.strict()),
    ],
)
def test_presets_have_names(name, policy):
    """A preset can be said in a word, and is made only once."""
    assert LoadPolicy.of(name) == policy
    assert LoadPolicy.of(name) is LoadPolicy.of(name)
    assert LoadPolicy.of(policy) is policy


@pytest.mark.parametrize("policy", ["fast", "", 5, b"swr", ["swr"], LoadPolicy], ids=repr)
def test_unknown_preset_is_refused(policy):
    """The error names those that there are."""
    with pytest.raises(InvalidOption, match="'simple', 'swr', 'strict'"):
        LoadPolicy.of(policy)


def test_presets_say_what_they_promise():
    """Simple and strict serve nothing stale; strict loads nothing twice; swr serves stale."""
    simple, swr, strict = LoadPolicy.simple(), LoadPolicy.swr(stale_ttl=7.5), LoadPolicy.strict()
    assert (simple.stale_ttl, simple.early, simple.on_wait_over) == (0, True, "load")
    assert (swr.stale_ttl, swr.grace_ms, swr.background) == (7.5, 7500, True)
    assert (strict.stale_ttl, strict.stale_if_error, strict.early, strict.on_wait_over) == (
        0,
        False,
        False,
        "raise",
    )
    assert {policy.protect for policy in (simple, swr, strict)} == {"fleet"}


def test_preset_is_changed_by_replace():
    """The checks hold for the copy too."""
    assert dataclasses.replace(LoadPolicy.strict(), wait=1).wait == 1
    with pytest.raises(InvalidOption):
        dataclasses.replace(LoadPolicy.strict(), wait=-1)


def test_swr_without_grace_is_refused():
    """It would be the simple policy under another name."""
    with pytest.raises(InvalidOption, match="stale_ttl"):
        LoadPolicy.swr(stale_ttl=0)


NUMBERS = (
    "stale_ttl",
    "beta",
    "jitter",
    "lock_ttl",
    "wait",
    "soft_timeout",
    "hard_timeout",
    "negative_ttl",
)
WRONG = [
    *((name, bad) for name in NUMBERS for bad in (-1, "1", True, float("nan"), float("inf"), [])),
    *((name, None) for name in ("stale_ttl", "beta", "jitter", "lock_ttl", "wait")),
    *((name, 0) for name in ("lock_ttl", "soft_timeout", "hard_timeout", "negative_ttl")),
    *((name, bad) for name in ("stale_if_error", "background") for bad in (0, None, "yes")),
    *((name, bad) for name in ("protect", "on_wait_over") for bad in ("all", None, True, [], "")),
    *(
        ("poll", bad)
        for bad in (
            0.1,
            (0.1,),
            (0.2, 0.1),
            (0, 1),
            (0.1, 61),
            ("a", "b"),
            [0.1, 0.2],
            (0.1, 0.2, 0.3),
        )
    ),
    *(
        ("negative_on", bad)
        for bad in (LookupError, [LookupError], ("LookupError",), (KeyboardInterrupt,), (int,))
    ),
    ("jitter", 1.01),
    ("beta", 1001),
]


@pytest.mark.parametrize(("name", "bad"), WRONG, ids=[f"{name}={bad!r}" for name, bad in WRONG])
def test_wrong_value_is_refused(name, bad):
    """The error names the field and shows what came."""
    others = {"negative_ttl": 1.0} if name == "negative_on" else {"negative_on": (LookupError,)}
    others = others if name.startswith("negative") else {}
    with pytest.raises(InvalidOption) as caught:
        LoadPolicy(**{name: bad}, **others)
    assert name in str(caught.value)
    assert name == "poll" or repr(bad) in str(caught.value)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"negative_ttl": 5}, "negative_ttl and negative_on go together"),
        ({"negative_on": (LookupError,)}, "negative_ttl and negative_on go together"),
        ({"soft_timeout": 1}, "stale_ttl must be more than 0"),
        (
            {"soft_timeout": 2, "hard_timeout": 2, "stale_ttl": 60},
            "less than hard_timeout, got 2 and 2",
        ),
    ],
)
def test_contradiction_is_refused(fields, message):
    """What one field says and another takes back is an error at once, not a surprise later."""
    with pytest.raises(InvalidOption, match=message):
        LoadPolicy(**fields)


def test_fields_at_their_ends_are_taken():
    """What is said to be allowed is allowed."""
    LoadPolicy(
        stale_ttl=0, jitter=1, beta=0, wait=0, poll=(0.001, 60), lock_ttl=0.1, hard_timeout=0.001
    )
    LoadPolicy(
        stale_ttl=60,
        soft_timeout=1,
        hard_timeout=2,
        negative_ttl=0.5,
        negative_on=(LookupError, OSError),
    )
    LoadPolicy(poll=(0.1, 0.1), protect="none", background=False, jitter=0, beta=1000, wait=3600)
