"""Which memory operands of straight code are addressed from a pointer near them.

An access at a constant distance from the start of a buffer carries that distance in four bytes of
its instruction; one within `reach` bytes of some pointer in a register does with one. Straight code
of a few thousand edges is bound by the bytes of its instructions, which come from beyond the first
cache, so the shorter form is worth a register and an instruction a window.
"""

from __future__ import annotations

from collections import OrderedDict, defaultdict, deque
from collections.abc import Sequence
from typing import NamedTuple

KEPT = 8  # pointers at a time: what is left of 16 registers beside the buffers' own
WORTH = 4  # accesses that pay for making a pointer
AHEAD = 512  # accesses within which they have to come


class Window(NamedTuple):
    """Pointer `number`, to element `center` of a buffer; made at its first access."""

    number: int
    buffer: str
    center: int


def windows(accesses: Sequence[tuple[int, str, int]], size: int) -> dict[int, Window]:
    """For accesses (op, buffer, element) in order, the window of each op that has one.

    `size` is the number of elements of a window. The KEPT pointers are those used last, as in a
    cache; one is made where at least WORTH of the next AHEAD accesses go to its window.
    """
    coming: dict[tuple[str, int], deque[int]] = defaultdict(deque)
    for k, (_, buffer, element) in enumerate(accesses):
        coming[buffer, element // size].append(k)
    held: OrderedDict[tuple[str, int], Window] = OrderedDict()
    found: dict[int, Window] = {}
    made = 0
    for k, (op, buffer, element) in enumerate(accesses):
        key = buffer, element // size
        later = coming[key]
        if key in held:
            held.move_to_end(key)
        elif len(later) >= WORTH and later[WORTH - 1] < k + AHEAD:
            if len(held) == KEPT:
                held.popitem(last=False)
            held[key] = Window(made, buffer, key[1] * size + size // 2)
            made += 1
        later.popleft()
        if key in held:
            found[op] = held[key]
    return found
