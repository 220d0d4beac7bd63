"""Items loaded ahead of their use, in threads."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Prefetcher(Generic[Item]):
    """Iterates over the items that `load` makes of `numbers`, one each, in order, a few calls ahead in threads.

    `load` gets `group_size` numbers at a time. Use it as a context, or to its end: leaving drops what was loaded ahead.
    An exception of `load` is raised when the first of its numbers is requested.
    """

    def __init__(
        self, load: Callable[[Sequence[int]], Sequence[Item]], numbers: Sequence[int], num_threads: int, group_size: int
    ) -> None:
        self._load = load
        self._groups = (numbers[start : start + group_size] for start in range(0, len(numbers), group_size))
        self._executor = ThreadPoolExecutor(num_threads, thread_name_prefix="loader")
        self._ahead: deque[Future[Sequence[Item]]] = deque()
        self._loaded: deque[Item] = deque()
        for _ in range(2 * num_threads):
            self._submit()

    def __iter__(self) -> Iterator[Item]:
        return self

    def __next__(self) -> Item:
        if not self._loaded:
            if not self._ahead:
                self._executor.shutdown()
                raise StopIteration
            self._loaded.extend(self._ahead.popleft().result())
            self._submit()
        return self._loaded.popleft()

    def __enter__(self) -> "Prefetcher[Item]":
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._executor.shutdown(cancel_futures=True)

    def _submit(self) -> None:
        group = next(self._groups, None)
        if group is not None:
            self._ahead.append(self._executor.submit(self._load, group))
