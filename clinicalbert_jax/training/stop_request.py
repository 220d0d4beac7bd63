"""SIGTERM and Ctrl-C as a request to save and stop. Loads no JAX."""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable
from types import TracebackType
from typing import NoReturn

from clinicalbert_jax.runs import lease

EXIT_RESUME = 75  # EX_TEMPFAIL of sysexits.h: stopped before the end, all saved; the same command continues

_RELEASE_S = 5  # where the bucket does not answer
_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_NOTHING_TO_SAVE = "stopped, with nothing left to save; the same command continues from there"


class StoppedError(Exception):
    """Raised inside an evaluation that a request ends."""


def end_process(code: int, message: str = "") -> NoReturn:
    """Print `message` and end this process at once, whatever its threads do; the next run may have its bucket."""
    with contextlib.suppress(OSError, ValueError):  # an output that is closed
        if message:
            print(message, file=sys.stderr)
        sys.stdout.flush()
        sys.stderr.flush()
    lease.release_all(_RELEASE_S)
    os._exit(code)


class StopRequest:
    """Within this context, SIGTERM or the first Ctrl-C is a request to stop; a second Ctrl-C ends the process at once.

    Where there is something to save, it sets `requested`, and the training loop saves. Before (files are read, programs
    compiled) and after, it ends the process with `EXIT_RESUME`. Python runs its handlers between two instructions of
    the main thread, which may compile for minutes in one, so a thread of its own acts.

    Cloud schedulers announce a preemption by SIGTERM: TPU and GKE nodes, SLURM's requeue, Kubernetes' grace period.
    """

    def __init__(self) -> None:
        self.requested = False
        self.end: Callable[[int, str], NoReturn] = end_process  # this process, or all processes of the run
        self._something_to_save = False
        self._lock = threading.Lock()

    def something_to_save(self) -> None:
        """From now on a request only sets `requested`."""
        self._something_to_save = True

    def nothing_to_save(self) -> None:
        """From now on a request ends the process; so does one that came before."""
        with self._lock:
            self._something_to_save = False
            if self.requested:
                self.end(EXIT_RESUME, _NOTHING_TO_SAVE)

    def __enter__(self) -> "StopRequest":
        reader, self._writer = os.pipe()
        os.set_blocking(self._writer, False)
        self._thread = threading.Thread(target=self._listen, args=(reader,), name="stop request", daemon=True)
        self._thread.start()
        # The wakeup descriptor is written to by the handler in C, at once; the handlers in Python have nothing to do.
        self._wakeup_before = signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
        self._before = {number: signal.signal(number, lambda *_: None) for number in _SIGNALS}
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._wakeup_before)
        os.close(self._writer)
        self._thread.join()

    def _listen(self, reader: int) -> None:
        while received := os.read(reader, 1):
            if received[0] in _SIGNALS:
                self._request(received[0])
        os.close(reader)

    def _request(self, number: int) -> None:
        with self._lock:
            if self.requested and number == signal.SIGINT:
                os._exit(128 + number)  # without waiting for the threads of a save in progress
            if not self._something_to_save:
                self.end(EXIT_RESUME, _NOTHING_TO_SAVE)
            self.requested = True
