"""The processes of a sweep leave this one as it was: its environment, its signals, its threads."""

import os
import signal
import sys
from concurrent.futures import ThreadPoolExecutor

from tinygrad_rnn.atlas import process_pool


def test_a_pool_leaves_the_environment_as_it_was(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    with process_pool(1):
        assert os.environ["OMP_NUM_THREADS"] == os.environ["MKL_NUM_THREADS"] == "1"
    assert os.environ["OMP_NUM_THREADS"] == "7" and "MKL_NUM_THREADS" not in os.environ


def test_a_pool_may_be_asked_for_in_a_thread_and_has_a_process_for_each_core():
    with ThreadPoolExecutor(1) as threads, process_pool() as pool:
        assert pool._max_workers == min(os.cpu_count(), 61 if sys.platform == "win32" else os.cpu_count())
        assert threads.submit(lambda: pool.submit(int, "3").result(timeout=60)).result() == 3


def test_after_a_process_has_started_ctrl_c_is_what_it_was():
    before = signal.getsignal(signal.SIGINT)
    with process_pool(1) as pool:
        assert pool.submit(int, "3").result(timeout=60) == 3
        assert signal.getsignal(signal.SIGINT) is before
        if hasattr(signal, "pthread_sigmask"):  # not on Windows
            blocked = signal.pthread_sigmask(signal.SIG_BLOCK, [])
            assert signal.SIGINT not in blocked
