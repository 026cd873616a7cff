"""Ctrl-C while something is written that must be whole."""

import os
import signal
import threading

import pytest

from prune_gym._utils.interrupts import interrupts_wait


def interrupt():
    os.kill(os.getpid(), signal.SIGINT)


@pytest.fixture(autouse=True)
def heard():
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_an_interrupt_waits_until_the_block_has_ended():
    done = []
    with pytest.raises(KeyboardInterrupt), interrupts_wait():
        interrupt()
        done.append("the rest of the block")
    assert done and signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_second_interrupt_does_not_wait():
    done = []
    with pytest.raises(KeyboardInterrupt), interrupts_wait():
        interrupt()
        interrupt()
        done.append("not reached")
    assert not done


def test_a_block_without_interrupt_changes_nothing():
    with interrupts_wait():
        pass
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    with pytest.raises(KeyboardInterrupt):
        interrupt()


def test_an_interrupt_that_is_ignored_stays_so():
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with interrupts_wait():
        interrupt()
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN


def test_other_threads_can_write_too():
    done = []

    def write():
        with interrupts_wait():
            done.append("written")

    thread = threading.Thread(target=write)
    thread.start()
    thread.join()
    assert done
