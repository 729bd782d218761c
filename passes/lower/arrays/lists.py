"""What loops read of a plan's blocks, as arrays: in-lists that repeat stand once, and so do blocks
that differ from others by what is added."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ncc.ir import csr
from ncc.ir.graph import Ints, Longs
from ncc.ir.plan import Plan
from ncc.ir.ssa_build import Builder
from ncc.passes.lower.arrays.periods import Periods, periods_of
from ncc.passes.lower.arrays.tables import Tables
from ncc.passes.lower.arrays.turns import Kind, Turn, short, stretches

PART = 1024  # rows that are looked at together
MANY = 16  # lists: fewer are short
CHUNK, ODD_CHUNK = 8, 6  # blocks, in whole rounds of loops; the latter where three share an in-list
OFTEN = 4  # rounds of a chunk from which on they have a loop of their own
FEW = 256  # blocks: the arrays of fewer are short
MOVED = ("starts", "bases", "places")  # those of a block that may differ by what is added


class Lists(NamedTuple):
    """The slots that blocks read: those of block b are `sources` from starts[b] on, up to ends[b],
    each with bases[b] added. Without `bases` nothing is, and `starts` has one more than there are
    blocks: the sources of a block that has its own end where the next begins."""

    sources: Ints
    starts: Longs
    ends: Longs
    bases: Ints | None


def lists_of(plan: Plan, slots: Ints) -> Lists:
    """The lists of a plan whose neurons have these slots. Blocks that follow one another and read
    the same have one list. So have all, wherever they are, whose lists differ by what is added to
    each source, where they are many: the positions of a convolution, the steps of an RNN, the heads
    and rows of attention.

        slots 0 1 2, 1 2 3, 5 6 7  =>  sources 0 1 2, starts 0 0 0, bases 0 1 5
    """
    leader = plan.blocks[:-1]
    lengths = np.diff(plan.starts)[leader]
    fresh = _fresh(plan, leader, lengths)
    sources = _sources(plan, slots, leader[fresh], lengths[fresh])
    repeated = csr.repeated(lengths[fresh], sources) if fresh.sum() >= MANY else None
    if repeated is None:
        ends = np.cumsum(np.where(fresh, lengths, 0))
        return Lists(sources, np.append(ends - lengths, ends[-1:]), ends, None)
    begins, bases, sources = repeated
    of = np.cumsum(fresh) - 1
    return Lists(sources, begins[of], begins[of] + lengths, bases[of])


def _sources(plan: Plan, slots: Ints, rows: Longs, lengths: Longs) -> Ints:
    """The slots that these rows read, one row after another; a part of them at a time, as what is
    computed on the way takes many times the memory."""
    ends = np.cumsum(lengths)
    found = np.empty(lengths.sum(), np.int32)
    for part in range(0, len(rows), PART):
        n, end = lengths[part : part + PART], ends[part : part + PART]
        at = csr.ranges(plan.starts[rows[part : part + PART]], n)
        found[end[0] - n[0] : end[-1]] = slots[plan.graph.sources[plan.edges[at]]]
    return found


def _fresh(plan: Plan, leader: Longs, lengths: Longs) -> NDArray[np.bool_]:
    """Which blocks read other sources than the block before."""
    fresh = np.ones(len(leader), np.bool_)
    wide = np.flatnonzero((plan.sizes[1:] > 1) & (plan.sizes[:-1] > 1)
                          & (lengths[1:] == lengths[:-1])) + 1
    if not len(wide):
        return fresh
    fresh[wide] = False
    for part in csr.parts(lengths[wide]):
        mine, count = wide[part], lengths[wide[part]]
        here, before = [plan.graph.sources[plan.edges[csr.ranges(plan.starts[leader[k]], count)]]
                        for k in (mine, mine - 1)]
        fresh[np.repeat(mine, count)[here != before]] = True
    return fresh


def once(plan: Plan, lists: Lists, segments: Longs, mine: NDArray[np.bool_], count: int) -> Longs:
    """Of each segment (a row of `segments`), of those that are `mine`: 1 where each `count` blocks
    that go together have one list of weights, 2 where they have one of sources, but for their
    bases; or both."""
    found = np.zeros(len(segments), np.int64)
    first, last = segments[:, 0], segments[:, 1]
    rounds = np.where(mine, (last - first) // count, 0)
    chunks = np.repeat(first, rounds) + csr.within(rounds) * count
    for bit, begins, shared in ((1, plan.weights, plan.shares),
                                (2, lists.starts, lists.bases is not None)):
        if shared:
            at = begins[chunks[:, None] + np.arange(count)]
            other = np.repeat(np.arange(len(first)), rounds)[(at != at[:, :1]).any(axis=1)]
            alike = rounds > 0
            alike[other] = False
            found += bit * alike
    return found


def offsets_of(numbers: Longs, segments: Longs, count: int) -> list[int] | None:
    """What is added to the number of a block for each of the `count` that go together, itself among
    them, where that is the same in all of these segments, and never negative."""
    first, last = segments[:, 0], segments[:, 1]
    rounds = (last - first) // count
    at = (np.repeat(first, rounds) + csr.within(rounds) * count)[:, None] + np.arange(count)
    if not len(at):
        return None
    apart = numbers[at] - numbers[at[:, :1]]
    same = bool((apart == apart[0]).all()) and int(apart[0].min()) >= 0
    return apart[0].tolist() if same else None


class Descriptors(NamedTuple):
    """The numbers of blocks as arrays in which equal ones stand once, with what is added for each
    of those that share them.

    arrays          (K) each, by name: the numbers of the blocks that are kept
    position (B+1)  how many of these come before each block: its position, where it is kept
    firsts   (C)    the first segment of each class: of a class are those whose chunks are alike
    classes  (S)    the class of each segment
    begins   (S)    the first chunk of each segment
    at       (N)    the position of each chunk's first block
    moved           (N) each, by name: what is added to the numbers of a chunk's blocks
    """

    arrays: dict[str, Longs]
    position: Longs
    firsts: Longs
    classes: Longs
    begins: Longs
    at: Longs
    moved: dict[str, Longs]


def chunk_of(sides: Longs) -> Longs:
    """The blocks of a chunk of segments of these sides; their last ones may have fewer."""
    return np.where(sides == 3, ODD_CHUNK, CHUNK)


def descriptors(arrays: dict[str, Longs], segments: Longs, single: NDArray[np.bool_]
                ) -> Descriptors | None:
    """The descriptors of blocks whose numbers stand in `arrays` (B each, by name); those of
    segments whose rows have loops of their own (`single`) are kept as they are. None where less
    than half of the numbers is saved.

        places 4 5 6 7 9 3, chunks of two  =>  places 0 1 6 0, at 0 0 2, moved 4 6 3
    """
    count = len(arrays["weights"])
    if count < FEW:
        return None
    columns = [*MOVED, *[name for name in arrays if name not in (*MOVED, "ends")]]
    numbers = np.stack([arrays[name] for name in columns], axis=1).astype(np.int64)
    chunks = np.where(single, 0, -(-(segments[:, 1] - segments[:, 0]) // chunk_of(segments[:, 4])))
    sizes = np.repeat(chunk_of(segments[:, 4]), chunks)
    first = np.repeat(segments[:, 0], chunks) + csr.within(chunks) * sizes
    size = np.minimum(sizes, np.repeat(segments[:, 1], chunks) - first)
    if not len(size):
        return None
    bounds = csr.starts(size)
    within = numbers[csr.ranges(first, size)]
    least = np.minimum.reduceat(within[:, : len(MOVED)], bounds[:-1])
    within[:, : len(MOVED)] -= np.repeat(least, size, axis=0)
    alike = csr.representatives(bounds * len(columns), within.astype(np.int32).ravel(),
                                np.arange(len(first)))
    again = alike != np.arange(len(alike))
    # Beside the numbers of a block a chunk has three or four of its own.
    if count - int(size[again].sum()) + len(first) // 2 >= count // 2:
        return None
    moved = {}
    for k, name in enumerate(MOVED):
        if (numbers[first, k] != numbers[first[alike], k]).any():
            moved[name] = least[:, k]
            numbers[csr.ranges(first, size), k] -= np.repeat(least[:, k], size)
    keeps = np.ones(count, np.bool_)
    keeps[csr.ranges(first[again], size[again])] = False
    position, begins = csr.starts(keeps), csr.starts(chunks)
    lengths = segments[:, 1] - segments[:, 0]
    leader = csr.representatives(begins, alike.astype(np.int32), np.arange(len(segments)),
                                 lengths, *segments[:, 2:].T)
    firsts, classes = np.unique(leader, return_inverse=True)
    kept = {name: numbers[keeps, k] for k, name in enumerate(columns)}
    kept["ends"] = arrays["ends"][keeps]
    return Descriptors(kept, position, firsts, classes, begins[:-1], position[first[alike]], moved)


class Block(NamedTuple):
    """A block: where its numbers stand in arrays, and what is added to them, by their array."""

    at: int
    moved: dict[str, int]

    def without(self, name: str) -> Block:
        """The block whose numbers in this array have nothing added."""
        return Block(self.at, {by: added for by, added in self.moved.items() if by != name})


class Within(NamedTuple):
    """The segment that open loops are at (ops): its number, its class, and the time at which its
    turn is; `kind` (S): the segments that it may be of."""

    at: int
    of: int
    time: int | None
    kind: Longs


class Arrays:
    """What loops read of the blocks of one plan, as arrays, and the loops over these. Values are in
    the buffer `held`."""

    held = "work"

    def __init__(self, plan: Plan, tables: Tables) -> None:
        self.plan = plan
        self.tables = tables
        self.begun: list[tuple[int, list[Kind]]] | None = None

    def table(self, name: str, type: str, values: Any) -> str:
        if name not in self.tables.own:
            self.tables.add(name, type, values)
        return name

    def begin(self, slots: Ints, cut: Callable[[Plan, Lists], Longs]
              ) -> list[tuple[int, list[Kind]]]:
        """The arrays of a function whose neurons have these slots, and whose segments `cut` gives,
        and the loops that it is made of, as `stretches` says: none where it goes in phases. All
        functions of one plan have the same."""
        if self.begun is not None:
            return self.begun
        plan = self.plan
        lists = self.lists = lists_of(plan, slots)
        self.segments = cut(plan, lists)
        turns = [] if plan.phased else list(stretches(plan, self.segments))
        self.numbers = {"starts": lists.starts, "weights": plan.weights,
                        "biases": np.maximum(plan.biases, 0),
                        "places": slots[plan.rows[plan.blocks[:-1]]], "ends": lists.ends,
                        "rows": np.diff(plan.blocks)}
        # Segments that are alike share the numbers of their loops.
        self.shared, self.classes, self.weights = None, self.segments, "weights"
        self.periods: Periods | None = None
        if lists.bases is not None:
            self.numbers["bases"] = lists.bases
            single = np.isin(np.arange(len(self.segments)), np.concatenate([[], *[
                kind.segments for _, kinds in turns for kind in kinds
                if short(kind, self.segments)]]))
            if not plan.phased:
                self.shared = descriptors(self.numbers, self.segments, single)
        arrays = self.numbers
        if self.shared is not None:
            arrays, self.classes = self.shared.arrays, self.segments[self.shared.firsts]
        elif not plan.seconds.any() and np.array_equal(lists.starts[: len(plan.weights)],
                                                       plan.weights):
            self.weights = "starts"
        self.table("sources", "i", lists.sources)
        for name in ("starts", "bases", self.weights, "biases", "places"):
            if name in arrays:
                self.table(name, "i", arrays[name])
        if self.shared is not None:
            turns = self.begun = self.repeat(self.shared, turns, single)
        self.table("segment_edges", "i", self.classes[:, 3])
        self.begun = turns
        return turns

    def repeat(self, shared: Descriptors, turns: list[tuple[int, list[Kind]]],
               single: NDArray[np.bool_]) -> list[tuple[int, list[Kind]]]:
        """The arrays of segments and of chunks, and the loops over turns, in which turns that
        repeat are gone through several times."""
        chunks = np.append(shared.begins, len(shared.at))
        begins = np.array([0, len(self.segments)])
        if len(turns) == 1:
            begins = np.append(turns[0][1][0].first, len(self.segments))
        found = self.periods = periods_of([kind for _, kinds in turns for kind in kinds], begins,
                                          shared.classes, chunks, shared.moved, single)
        self.table("segment_classes", "i", shared.classes[found.segments])
        kept = np.searchsorted(found.chunks, chunks)
        self.table("segment_chunks", "i", kept[found.segments])
        self.table("chunks", "i", shared.at[found.chunks])
        for name, by in shared.moved.items():
            self.table(f"chunk_{name}", "i", by[found.chunks])
        if len(turns) > 1:
            return turns
        places = np.searchsorted(found.segments, np.arange(len(self.segments) + 1))
        kinds = []
        for kind in turns[0][1]:
            bounds = np.stack([kind.first, kind.last])[:, found.turns]
            if not short(kind, self.segments):  # else its rows are read, whose numbers all stand
                bounds = places[bounds]
            kinds.append(kind._replace(first=bounds[0], last=bounds[1]))
        return [(len(found.turns), kinds)]

    def turns(self, b: Builder, count: int) -> tuple[int, Turn | None]:
        """Open the loops over so many turns: how many loops, and the turn."""
        if count == 1:
            return 0, None
        if self.periods is None or (self.periods.times == 1).all():
            return 1, Turn(b.loop(b.index(0), b.index(count))[0])
        ends, times = self.periods.ends, self.periods.times
        part = b.loop(b.index(0), b.index(len(ends)))[0]
        time = b.loop(b.index(0), b.load(self.table("times", "i", times), 0, part))[0]
        ends = np.append(0, ends)
        return 3, Turn(b.loop(*self.bounds(b, "turns", part, ends[:-1], ends[1:]))[0], time)

    def number(self, b: Builder, name: str, block: Block, number: int = 0) -> int:
        """That of block `block` + number in an array of blocks."""
        found = b.load(name, number, block.at)
        return b.op("iadd", found, block.moved[name]) if name in block.moved else found

    def base(self, b: Builder, block: Block, number: int = 0) -> int | None:
        """What is added to the sources of block `block` + number, of lists that many share."""
        return None if self.lists.bases is None else self.number(b, "bases", block, number)

    def moved(self, b: Builder, slot: int, base: int | None, offset: int = 0) -> int:
        """The value in this slot, `base` + offset further on."""
        return b.load(self.held, offset, slot if base is None else b.op("iadd", slot, base))

    def end(self, b: Builder, block: Block) -> int:
        """Where the list of sources of a row that has a loop of its own ends."""
        if self.lists.bases is None:
            return b.load("starts", 1, block.at)
        arrays = self.numbers if self.shared is None else self.shared.arrays
        return b.load(self.table("ends", "i", arrays["ends"]), 0, block.at)

    def bounds(self, b: Builder, name: str, turn: int | None, first: Any, last: Any
               ) -> tuple[int, int]:
        """Where a turn's part of a list begins and ends."""
        if turn is None:
            return b.index(int(first[0])), b.index(int(last[0]))
        return (b.load(self.table(f"{name}_first", "i", first), 0, turn),
                b.load(self.table(f"{name}_last", "i", last), 0, turn))

    def numbered(self, b: Builder, segment: Within) -> int:
        """The number of a segment among all: those of every time, too."""
        found = self.periods
        if found is None or segment.time is None:
            return segment.at
        at = b.load(self.table("segment_numbers", "i", found.segments), 0, segment.at)
        ahead = b.load(self.table("segments_ahead", "i", found.ahead), 0, segment.at)
        return b.op("iadd", at, b.op("imul", segment.time, ahead))

    def added(self, b: Builder, segment: Within, mine: Any, chunk: int) -> dict[str, int]:
        """What is added to the numbers of a chunk, of a segment of a class that is `mine`."""
        assert self.shared is not None and self.periods is not None
        found = {name: b.load(f"chunk_{name}", 0, chunk) for name in self.shared.moved}
        if segment.time is None:
            return found
        some = np.zeros(len(self.segments), np.bool_)
        some[segment.kind] = mine[self.shared.classes[segment.kind]]
        chunks = np.append(self.shared.begins, len(self.shared.at))
        chosen = np.repeat(some, np.diff(chunks))[self.periods.chunks] & self.periods.repeats
        for name, steps in self.periods.steps.items():
            if not steps[chosen].any():
                continue
            step = self.periods.alike(steps, chosen)
            by = (b.load(self.table(f"chunk_{name}_step", "i", steps), 0, chunk) if step is None
                  else b.index(step))
            found[name] = b.op("iadd", found[name], b.op("imul", segment.time, by))
        return found

    def blocks(self, b: Builder, mine: Any, segment: Within, kind: str, count: int, many: int,
               side: int) -> tuple[int, Block]:
        """Loops over the blocks of a segment, `count` at a time: `many`, or of those that are left
        then. There are none in segments of other shapes, whose classes are not `mine`. How many
        loops, and the first of the blocks."""
        s, of = segment.at, segment.of
        first, last = self.classes[:, 0], self.classes[:, 1]
        done = first + (last - first) // many * many
        begin, end = (first, done) if count == many else (done, last)
        rounds = np.where(mine, (end - begin) // count, 0)
        name = f"{kind}_{count}_{many}"
        turns = b.load(self.table(f"rounds_{name}", "i", rounds), 0, of)
        if self.shared is None:
            q = b.loop(b.index(0), turns)[0]
            first_of = b.load(self.table(f"blocks_{name}", "i", np.where(mine, begin, 0)), 0, s)
            return 1, Block(b.op("iadd", first_of, b.op("imul", q, b.index(count))), {})
        chunk = int(chunk_of(np.array(side)))
        assert chunk % count == 0  # no round is of two chunks
        if count == many and chunk >= OFTEN * count:
            most = chunk // count  # rounds, for all of which what is added is read once
            chunks = self.table(f"chunks_{name}", "i", -(-rounds // most))
            c = b.loop(b.index(0), b.load(chunks, 0, of))[0]
            left = b.op("iadd", turns, b.op("imul", c, b.index(-most)))
            c = b.op("iadd", b.load("segment_chunks", 0, s), c)
            at, moved = b.load("chunks", 0, c), self.added(b, segment, mine, c)
            q = b.loop(b.index(0), b.op("imin", left, b.index(most)))[0]
            at = b.op("iadd", at, b.op("imul", q, b.index(count)))
            return 2, Block(at, moved)
        c = b.loop(b.index(0), turns)[0]
        before = np.where(mine & (rounds > 0), begin - first, 0)
        within = None
        if chunk > count or before.any():
            at = b.op("imul", c, b.index(count))
            if before.any():
                at = b.op("iadd", at, b.load(self.table(f"blocks_{name}", "i", before), 0, of))
            c = b.op("idiv", at, b.index(chunk))
            within = b.op("iadd", at, b.op("imul", c, b.index(-chunk)))
        c = b.op("iadd", b.load("segment_chunks", 0, s), c)
        at = b.load("chunks", 0, c)
        at = at if within is None else b.op("iadd", at, within)
        return 1, Block(at, self.added(b, segment, mine, c))

    def offsets(self, segments: Longs, count: int) -> dict[str, list[int]]:
        """The arrays in which the numbers of each `count` blocks of some segments that go together
        are as far apart, and how far each is from the first."""
        if self.shared is None or count == 1:
            return {}
        found = {name: offsets_of(self.numbers[name], segments, count)
                 for name in ("starts", "bases", "weights", "biases", "places")}
        return {name: apart for name, apart in found.items() if apart is not None}

    def of_round(self, b: Builder, name: str, q: Block, blocks: range,
                 offsets: dict[str, list[int]]) -> Iterator[tuple[int, int]]:
        """The numbers of some of the blocks from q on in an array, each with what is to be added,
        where `offsets` says it."""
        if name not in offsets:
            yield from ((self.number(b, name, q, i), 0) for i in blocks)
            return
        first = self.number(b, name, q)
        yield from ((first, offsets[name][i]) for i in blocks)
