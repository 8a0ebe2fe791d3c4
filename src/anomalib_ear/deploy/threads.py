# SPDX-FileCopyrightText: 2026 anomalib-ear contributors
# SPDX-License-Identifier: Apache-2.0

"""Work of several threads, in order."""

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def available_cores() -> int:
    """Return how many cores this process may use, where the system tells; else how many there are."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def in_order(
    function: Callable[[Item], Result], items: Iterable[Item], num_threads: int
) -> Generator[Result | Exception]:
    """Apply a function in threads, a bounded number of items ahead.

    Args:
        function: What is applied; may be called by several threads at once.
        items: What it is applied to. If it raises an error, this comes after the results of the items before.
        num_threads: How many threads there are.

    Yields:
        For each item, in order, the function's result or error.
    """
    pending: deque[Future[Result]] = deque()
    source = iter(items)
    ended: Exception | None = None
    with ThreadPoolExecutor(num_threads) as threads:
        try:
            while ended is None:
                try:
                    pending.append(threads.submit(function, next(source)))
                except Exception as error:  # noqa: BLE001  raised below, as soon as nothing is lost by it
                    ended = error
                while pending and (ended or pending[0].done() or len(pending) > 2 * num_threads):
                    outcome = _outcome(pending.popleft())
                    yield outcome
        finally:
            for future in pending:
                future.cancel()
    if not isinstance(ended, StopIteration):
        raise ended


def _outcome(future: "Future[Result]") -> Result | Exception:
    """Wait for a result or error."""
    error = future.exception()
    return error if isinstance(error, Exception) else future.result()
