"""Ctrl-C and SIGTERM, raised in this very process."""

import signal
import threading

import pytest

from shardcache.cli.signals import Interrupts

HANDLED = [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)]


@pytest.mark.parametrize(("number", "raised"), HANDLED)
def test_signal_raises(number, raised):
    """A signal becomes an exception, and afterwards the handler of before is back."""
    before = signal.getsignal(number)
    with pytest.raises(raised), Interrupts():
        signal.raise_signal(number)
    assert signal.getsignal(number) is before


@pytest.mark.parametrize(("number", "raised"), HANDLED)
def test_shield_lets_the_block_end(number, raised):
    """Inside a shield, nested or not, the exception waits until the outermost block is over."""
    done = []
    with Interrupts() as interrupts:
        with pytest.raises(raised), interrupts.shield():
            with interrupts.shield():
                signal.raise_signal(number)
                done.append("inner")
            done.append("outer")
        assert done == ["inner", "outer"]


def test_only_the_first_counts():
    """What is cleaned up after a first Ctrl-C is not broken off by a second."""
    with Interrupts() as interrupts:
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        with interrupts.shield():
            signal.raise_signal(signal.SIGTERM)


def test_error_inside_a_shield_stays():
    """An error in a shielded block is not hidden by the signal that came meanwhile."""
    with Interrupts() as interrupts, pytest.raises(ZeroDivisionError), interrupts.shield():
        signal.raise_signal(signal.SIGINT)
        1 / 0  # noqa: B018


def test_other_threads_leave_signals_alone():
    """Outside the main thread, where Python allows no handlers, entering does nothing."""
    failures = []

    def enter():
        try:
            with Interrupts():
                pass
        except ValueError as error:
            failures.append(error)

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert failures == []
