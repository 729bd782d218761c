"""Neurons that a row reads more than once: texts of nets have each edge once."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ncc.ir.csr import Ints


class Repeated(NamedTuple):
    """Which neurons are to be copied (p), one of them so often as a row reads it again; and where
    the copies go: element `where` of `neurons` is at `held[more]`, rows whose elements are in the
    `order` of theirs."""

    neurons: Ints
    sources: NDArray[Any]
    rows: NDArray[np.int64]
    held: NDArray[Any]
    more: NDArray[np.bool_]
    order: NDArray[np.int64]
    where: NDArray[np.int64]

    def put(self, copies: Ints) -> NDArray[Any]:
        """The sources (n, k) with the numbers (p) of the copies in their places."""
        held = self.held.copy()
        held[self.more] = copies[self.where]
        made = np.array(self.sources)
        part = made[self.rows]
        np.put_along_axis(part, self.order, held, axis=1)
        made[self.rows] = part
        return made


def repeated(sources: NDArray[Any]) -> Repeated | None:
    """What the rows of sources (n, k) read more than once, but for what is negative; None where
    there is nothing."""
    held = np.sort(sources, axis=1)
    rows = np.flatnonzero(((held[:, 1:] == held[:, :-1]) & (held[:, 1:] >= 0)).any(axis=1))
    if not rows.size:
        return None
    order = np.argsort(sources[rows], axis=1, kind="stable")
    held = held[rows]
    times = np.zeros(held.shape, np.int64)  # how often the row has read it before
    for at in range(1, held.shape[1]):
        again = (held[:, at] == held[:, at - 1]) & (held[:, at] >= 0)
        times[:, at] = np.where(again, times[:, at - 1] + 1, 0)
    more = times > 0
    pairs, where = np.unique(np.stack([held[more], times[more]]), axis=1, return_inverse=True)
    return Repeated(pairs[0].astype(np.int32), sources, rows, held, more, order, where.ravel())
