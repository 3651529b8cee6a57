"""A worker process: it reads a trainer, then chunk after chunk, until its driver has gone.

Messages are pickled bytes, not objects of a queue, so that tensors travel as bytes too: shared
memory would be lost with whoever made it.
"""

import multiprocessing
import os
import pickle
import signal
import sys
import threading
from multiprocessing.connection import Connection
from typing import Any

import torch

from pso_attn.evaluate.device import end_before_others
from pso_attn.evaluate.executors.portable import portable, unpickled
from pso_attn.evaluate.jobs import Job, Trainer, attempt, seldom

READY, SAID, ANSWER, ERROR, LOST = "ready", "said", "answer", "error", "lost"


def serve(link: Connection, device: torch.device, threads: int) -> None:
    """Train what comes through the link; threads: on how many, of which it may use fewer."""
    _live_apart()
    torch.set_num_threads(min(threads, torch.get_num_threads()))
    _send(link, READY, None)
    try:
        trainer: Trainer = unpickled(link.recv_bytes()).on(device)
        while True:
            _train(link, trainer, pickle.loads(link.recv_bytes()))
    except EOFError:  # the driver has closed its end
        return
    except Exception as error:
        _send(link, ERROR, portable(error))


def _train(link: Connection, trainer: Trainer, job: Job) -> None:
    hear = seldom(lambda said: _send(link, SAID, said))
    _send(link, ANSWER, attempt(trainer, job, hear))


def _send(link: Connection, kind: str, content: Any) -> None:
    link.send_bytes(pickle.dumps((kind, content)))


def _live_apart() -> None:
    """Form a process group of its own, which ends with the driver, however that ends.

    Ctrl-C at a terminal reaches the driver alone. What is printed goes to stderr, for stdout
    holds results.
    """
    os.setsid()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    end_before_others()
    threading.Thread(target=_end_with_driver, daemon=True).start()


def _end_with_driver() -> None:
    driver = multiprocessing.parent_process()
    assert driver is not None
    driver.join()
    os.killpg(0, signal.SIGKILL)  # with all that user code has started
