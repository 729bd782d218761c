"""What is asked of an image that comes from outside before anything is computed with it."""

from __future__ import annotations

import zlib
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ncc.errors import NccError
from ncc.images.image import ALIGN, AT, CODES, HEAD, MAGIC, VERSION, Head, Words
from ncc.images.kinds import Kinds
from ncc.ir.ssa import DTYPES
from ncc.scalar.aggregations import PAIRS


class Reason(NamedTuple):
    """Why an image is refused: the end of a macro's name in C, and a phrase."""

    name: str
    phrase: str


# Numbered from 1, in the order in which they are asked for: what a later one reads, an earlier one
# has checked. 0 is a good image.
REASONS: Final = (
    Reason("POINTER", f"it does not begin at a multiple of {ALIGN} bytes"),
    Reason("SIZE", "it is cut short"),
    Reason("MAGIC", "it is no image of a net"),
    Reason("VERSION", "its version of the format is another"),
    Reason("DTYPE", "its dtype is not the engine's"),
    Reason("CHECKSUM", "its checksum is wrong"),
    Reason("KINDS", "its kinds of rows are not the engine's"),
    Reason("PARTS", "a part of it leaves the block, or is where another is"),
    Reason("VALUES", "its values are more than a machine can count"),
    Reason("BOUNDS", "its bounds do not ascend from 0 to the number of rows"),
    Reason("STARTS", "its starts do not ascend from 0 to the number of edges"),
    Reason("EDGES", "a row that is no sum has no edge, or one of pairs half a pair"),
    Reason("SOURCES", "an edge reads a value that is not computed before its level"),
    Reason("OUTS", "an output is no value"),
)
NUMBER: Final = {reason.name: 1 + k for k, reason in enumerate(REASONS)}


def least_edges(kinds: Kinds) -> list[int]:
    """The edges that a row of each kind has at least: all but sums begin with their first."""
    return [0 if kind.aggregation == "sum" else 1 for kind in kinds.kinds]


def in_pairs(kinds: Kinds) -> list[bool]:
    """Whether the edges of the rows of each kind are pairs."""
    return [kind.aggregation in PAIRS for kind in kinds.kinds]


def most_values(dtype: str, lanes: int, index_bits: int) -> int:
    """The values, inputs and rows, that the work of so many lanes may be for, on a machine with
    indices of so many bits."""
    real: int = DTYPES[dtype]().itemsize
    return min(((1 << index_bits - 1) - 1) // (lanes * real), (1 << 32) - 1)


def most_levels(kinds: Kinds) -> int:
    """Levels up to which the number of bounds is one of 32 bits."""
    return ((1 << 32) - 2) // len(kinds.kinds) if kinds.kinds else 0


def reason(block: NDArray[np.uint8], kinds: Kinds, dtype: str, most: int) -> int:
    """The number of the reason for which an engine of these kinds and this dtype, whose images have
    `most` values, refuses the image at the begin of the block; 0 where it does not. Of no image
    does it read, or would the engine read, what lies outside the block."""
    if len(block) and block.ctypes.data % ALIGN:  # an empty array is anywhere
        return NUMBER["POINTER"]
    if len(block) < 4 * HEAD:
        return NUMBER["SIZE"]
    head = Head(*[int(word) for word in block[: 4 * len(Head._fields)].view("<u4")])
    if head.magic != MAGIC:
        return NUMBER["MAGIC"]
    if head.version != VERSION:
        return NUMBER["VERSION"]
    if head.dtype != CODES[dtype]:
        return NUMBER["DTYPE"]
    if not 4 * HEAD <= head.size <= len(block) or head.size % ALIGN:
        return NUMBER["SIZE"]
    at = 4 * AT["checksum"]
    begun = zlib.crc32(bytes(4), zlib.crc32(block[:at].data))
    if zlib.crc32(block[at + 4 : head.size].data, begun) != head.checksum:
        return NUMBER["CHECKSUM"]
    if (head.kinds, head.n_kinds) != (kinds.digest, len(kinds.kinds)):
        return NUMBER["KINDS"]
    if not _inside(head, kinds, DTYPES[dtype]().itemsize // 4):
        return NUMBER["PARTS"]
    if head.inputs + head.rows > most:
        return NUMBER["VALUES"]
    return _indices(head, block[: head.size].view("<u4"), kinds)


def _inside(head: Head, kinds: Kinds, words: int) -> bool:
    """Whether the parts lie in the block one behind the other; reals are so many words."""
    if head.levels > most_levels(kinds):
        return False
    end, size = HEAD, head.size // 4
    for at, count in ((head.bounds, head.levels * head.n_kinds + 1), (head.starts, head.rows + 1),
                      (head.sources, head.edges), (head.outs, head.outputs)):
        if at < end or at + count > size:
            return False
        end = at + count
    end, size = -(-end // words), size // words
    for at, count in ((head.biases, head.rows), (head.weights, head.edges)):
        if at < end or at + count > size:
            return False
        end = at + count
    return True


def _indices(head: Head, words: Words, kinds: Kinds) -> int:
    """The reason for which the indices of parts that lie in the block are refused, or 0."""
    n_kinds = len(kinds.kinds)
    bounds, starts, sources, outs = [
        words[at : at + count].astype(np.int64)
        for at, count in ((head.bounds, head.levels * n_kinds + 1), (head.starts, head.rows + 1),
                          (head.sources, head.edges), (head.outs, head.outputs))]
    for name, ascending, last in (("BOUNDS", bounds, head.rows), ("STARTS", starts, head.edges)):
        if ascending[0] or ascending[-1] != last or (np.diff(ascending) < 0).any():
            return NUMBER[name]
    least, paired = [np.repeat(np.tile(np.array(of, np.int64), head.levels), np.diff(bounds))
                     for of in (least_edges(kinds), in_pairs(kinds))]
    lengths = np.diff(starts)
    if (lengths < least).any() or (lengths & paired).any():
        return NUMBER["EDGES"]
    firsts = bounds[:: max(1, n_kinds)]  # of each level, and the end
    computed = np.repeat(head.inputs + firsts[:-1], np.diff(starts[firsts]))
    if (sources >= computed).any():
        return NUMBER["SOURCES"]
    if (outs >= head.inputs + head.rows).any():
        return NUMBER["OUTS"]
    return 0


def checked(data: bytes | memoryview | NDArray[np.uint8], kinds: Kinds, dtype: str,
            most: int = (1 << 32) - 1) -> NDArray[np.uint8]:
    """The image that `data` begins with, in memory of its own, which is aligned. NccError E148
    where an engine of these kinds and this dtype refuses it."""
    raw = np.frombuffer(data, np.uint8)
    room = np.empty(len(raw) + ALIGN, np.uint8)
    first = -room.ctypes.data % ALIGN
    block = room[first : first + len(raw)]
    block[:] = raw
    why = reason(block, kinds, dtype, most)
    if why:
        raise NccError("E148", f"the image is refused: {REASONS[why - 1].phrase}")
    return block[: int(block[: 4 * HEAD].view("<u4")[AT["size"]])]
