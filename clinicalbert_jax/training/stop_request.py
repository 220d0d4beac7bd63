"""SIGTERM and Ctrl-C as a request to save and stop."""

import os
import signal
from types import FrameType, TracebackType


class Interruption:
    """Within this context, SIGTERM or the first Ctrl-C sets `requested`; a second Ctrl-C ends the process at once.

    Cloud schedulers announce a preemption by SIGTERM: TPU and GKE nodes, SLURM's requeue, Kubernetes' grace period.
    """

    def __init__(self) -> None:
        self.requested = False

    def __enter__(self) -> "Interruption":
        self._before = {number: signal.signal(number, self._request) for number in (signal.SIGTERM, signal.SIGINT)}
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _request(self, number: int, frame: FrameType | None) -> None:
        if self.requested and number == signal.SIGINT:
            os._exit(128 + number)  # without waiting for the threads of a save in progress
        self.requested = True
