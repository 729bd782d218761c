"""Which cases of a parametrised test the quick run keeps, and which skips a full run may have."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

# What no package can bring: another processor, and files that are beside the repository.
MAY_SKIP = re.compile(r"needs an \S+ machine|no shared/cases|SCIPY_ARRAY_API is not set")


def each_choice(cases: Sequence[Sequence[object]]) -> set[int]:
    """Positions of cases that have, between them, each value of each parameter (known as each
    choice, or 1-wise, coverage). `cases` holds the values of each case, in one order.

    Greedily: next is the case with the most values not met yet; of equal ones that whose values
    were met least often, so that combinations vary; of these the first."""
    met: Counter[tuple[int, str]] = Counter()
    rows = [[(k, repr(value)) for k, value in enumerate(case)] for case in cases]
    left, chosen = list(range(len(rows))), set()
    while left:
        best = min(left, key=lambda at: (-sum(not met[value] for value in rows[at]),
                                         sum(met[value] for value in rows[at]), at))
        if all(met[value] for value in rows[best]):
            break
        met.update(rows[best])
        chosen.add(best)
        left.remove(best)
    return chosen


def may_skip(reason: str) -> bool:
    """Whether a run that has everything installed may skip a test for this reason."""
    return MAY_SKIP.search(reason) is not None
