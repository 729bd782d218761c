"""The blocks of a plan, tiles and rows by themselves, as loops of a pass over one sample go through
them: as arrays, or as nests of loops where these repeat."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, Protocol

import numpy as np

from ncc.ir import csr
from ncc.ir.graph import AGGREGATIONS, Longs
from ncc.ir.graph_run import tangential
from ncc.ir.plan import Plan, Segment
from ncc.ir.ssa_build import Builder
from ncc.passes.lower.arrays.lists import lists_of
from ncc.passes.lower.arrays.sequences import steps_of
from ncc.passes.lower.arrays.tables import Tables
from ncc.passes.lower.sample.directions import Directions
from ncc.passes.lower.sample.kept import Kept
from ncc.scalar.aggregations import SUMS
from ncc.scalar.derivative import tame
from ncc.scalar.expressions import expression


class Kind(NamedTuple):
    """What the code of a row depends on: `height` is the room of its tile, `tame` whether the
    derivative of its activation is finite, `even` whether it reads neighbours. Of a gradient
    besides: whether rows have biases, whether only some do, whether all they read are inputs,
    whether gradients are added up before `dparams` gets them (`summed`), and whether any of its
    weights is a parameter.
    """

    aggregation: int
    height: int
    tame: bool
    even: bool = False
    biased: bool = False
    some: bool = False
    outer: bool = False
    summed: bool = False
    trained: bool = True


class Part(NamedTuple):
    """Rows of blocks, `size` at a time: for each block how many `rounds` (B), and where they begin
    from above, at `top` (B)."""

    size: int
    name: str
    rounds: Longs
    top: Longs


class InList(NamedTuple):
    """Where an in-list begins in `sources`, and what is added to each of its elements (ops)."""

    at: int
    base: int | None


class Block(Protocol):
    """The block that open loops are at."""

    def number(self, b: Builder, name: str) -> int:
        """That of the block in the arrays `columns`."""


class Listed(NamedTuple):
    """Block q of segment s (ops), whose numbers stand in arrays."""

    of: Blocks
    q: int
    s: int

    def number(self, b: Builder, name: str) -> int:
        return self.of.cell(name, 0, self.s if name == "fan_in" else self.q)


class Blocks(Directions):
    """Loops over segments, tiles and rows. Blocks whose numbers are those of others with something
    added are loops without arrays, where that leaves a quarter of these or less."""

    def __init__(self, plan: Plan, dtype: str, numerics: str, tables: Tables, native: int,
                 recompute: int, registers: int, provenance: bool) -> None:
        super().__init__(plan, dtype, numerics, tables, native, recompute, registers, provenance)
        self.kept = Kept(plan, tables, dtype, self.native)

    def values(self) -> None:
        plan = self.plan
        self.memory("values", self.kept.size, shared=True)
        self.memory("slopes", self.kept.size, shared=True)
        self.kept.run(self.b, self.row_of_x)
        self.weights_in = self.kept.names.get("packed", "packed")
        self.arrays()
        if not plan.additive.all():
            longest = int(np.diff(plan.starts)[~plan.additive].max())
            self.memory("products", longest)

    def arrays(self) -> None:
        """The arrays of segments, tiles and edges."""
        plan, kept = self.plan, self.kept
        leader = plan.blocks[:-1]
        segments = np.array(plan.segments, np.int64).reshape(-1, 5)
        first = plan.blocks[segments[:, 0]]
        run_of = np.searchsorted([run.first for run in plan.runs], first, side="right") - 1
        kinds = self.more_of_kinds([
            Kind(plan.runs[k].aggregation, height,
                 tame(expression(plan.runs[k].activation, self.g.functions)))
            for k, height in zip(run_of.tolist(), segments[:, 2].tolist(), strict=True)])
        self.kinds = list(dict.fromkeys(kinds))
        number = np.array([self.kinds.index(kind) for kind in kinds], np.int64)
        blocks = segments[:, 1] - segments[:, 0]
        self.heights = np.diff(plan.blocks)
        self.n_segments = len(segments)
        self.counts = segments[:, 3].astype(np.float64)
        lists = lists_of(plan, kept.slots())
        self.columns: dict[str, Longs] = {
            "starts": lists.starts[: len(plan.weights)],
            **({} if lists.bases is None else {"bases": lists.bases.astype(np.int64)}),
            "weights": plan.weights.astype(np.int64), "elements": kept.elements[leader],
            **self.more()}
        numbers = self.columns | {"fan_in": np.repeat(segments[:, 3], blocks)}
        for kind in self.kinds:
            for part in self.parts_of(kind) if kind.height > 1 else ():
                numbers |= {f"rounds_{part.name}": part.rounds, f"top_{part.name}": part.top}
        step = -1 if self.last_first else 1
        self.steps = steps_of(
            {name: values[::step] for name, values in numbers.items()},
            np.repeat(number, blocks)[::step], lambda name, values: self.table(name, "i", values))
        if self.steps is None:
            for k in range(len(self.kinds)):
                self.table(f"blocks_{k}", "i", np.where(number == k, blocks, 0))
            self.table("first_block", "i", segments[:, 0])
            self.table("fan_in", "i", segments[:, 3])
        # Those of the forward pass, by the same names.
        self.sources = self.tables.add("sources", "i", lists.sources)
        if self.steps is None:
            self.names["starts"] = self.tables.add("starts", "i", lists.starts)
            if lists.bases is not None:
                self.names["bases"] = self.tables.add("bases", "i", lists.bases)
        self.declare("weights", "elements")

    @property
    def last_first(self) -> bool:
        """Whether blocks are gone through from the last one to the first."""
        return not tangential(self.g)

    def more(self) -> dict[str, Longs]:
        """Other numbers of blocks (B each), by name."""
        return {}

    def declare(self, *names: str) -> None:
        """The arrays of these numbers, where there are any."""
        if self.steps is None:
            for name in names:
                self.table(name, "i", self.columns[name])

    def more_of_kinds(self, kinds: list[Kind]) -> list[Kind]:
        """The kind of each segment, with what else is to be known of it."""
        if self.lanes or self.native == 1:
            return kinds
        plan = self.plan
        source = self.kept.slots()[self.g.sources[plan.edges]]
        jumps = (np.diff(source, prepend=0) != 1) & (csr.within(np.diff(plan.starts)) > 0)
        uneven = np.bincount(csr.owners(plan.starts), jumps, len(plan.rows)) > 0
        return [kind._replace(even=not uneven[self.rows_in(segment)].any() and segment.fan_in > 1)
                for kind, segment in zip(kinds, plan.segments, strict=True)]

    def rows_in(self, segment: Segment) -> slice:
        """The rows of a segment."""
        return slice(self.plan.blocks[segment.first], self.plan.blocks[segment.last])

    # -- a row's parts

    def in_list(self, block: Block) -> InList:
        """The in-list of a block."""
        b = self.b
        return InList(block.number(b, "starts"),
                      block.number(b, "bases") if "bases" in self.columns else None)

    def source(self, read: InList, k: int | None) -> int:
        """The element of source k of an in-list; of the first one."""
        b = self.b
        found = b.load(self.sources, 0, read.at if k is None else b.op("iadd", read.at, k))
        return found if read.base is None else b.op("iadd", found, read.base)

    def each_block(self) -> Iterator[tuple[Kind, Block]]:
        """For each kind the loops in which its blocks are: the kind, and the block."""
        b = self.b
        if self.steps is not None:
            for k, row in self.steps.each(b):
                yield self.kinds[k], row
            return
        s = b.loop(b.index(0), b.index(self.n_segments))[0]
        if self.last_first:
            s = b.op("iadd", b.op("imul", s, b.index(-1)), b.index(self.n_segments - 1))
        for k, kind in enumerate(self.kinds):
            count, first = self.cell(f"blocks_{k}", 0, s), self.cell("first_block", 0, s)
            q = b.loop(b.index(0), count)[0]
            if self.last_first:
                q = b.op("iadd", b.op("imul", q, b.index(-1)), b.op("iadd", count, b.index(-1)))
            yield kind, Listed(self, b.op("iadd", first, q), s)
            b.close()
        b.close()

    def by_tiles(self, kind: Kind) -> bool:
        """Whether tiles of its weights are transposed, so that sources are a vector's lanes."""
        return not self.lanes and kind.even and kind.height == self.native > 1

    def parts_of(self, kind: Kind) -> list[Part]:
        """A block's rows, from the last one on, as loops of so many rows each."""
        height = kind.height
        many = height if self.by_tiles(kind) else min(height, 8 if self.registers > 16 else 4)
        if AGGREGATIONS[kind.aggregation] not in SUMS:
            many = 1
        whole = self.heights // many
        found = []
        for count, rounds, top in ((1, self.heights - whole * many, self.heights),
                                   (many, whole, whole * many)):
            mine = np.where(self.plan.sizes == height, rounds, 0)
            if mine.any():
                found.append(Part(count, f"{height}_by_{count}_of_{many}", mine, top))
                if many == 1:
                    break
        return found

    def each_part(self, block: Block, kind: Kind) -> Iterator[tuple[int, int]]:
        """For each part of a block's rows, the last one first, a loop: (how many rows, the first of
        them within the block)."""
        b = self.b
        if kind.height == 1:
            yield 1, b.index(0)
            return
        parts = self.parts_of(kind)
        for part in parts if self.steps is None else ():
            for name, values in (("rounds", part.rounds), ("top", part.top)):
                self.names[f"{name}_{part.name}"] = self.table(
                    f"{name}_{kind.height}_by_{part.size}", "i", values)
        for part in parts:
            u = b.loop(b.index(0), block.number(b, f"rounds_{part.name}"))[0]
            down = b.op("imul", b.op("iadd", u, b.index(1)), b.index(-part.size))
            yield part.size, b.op("iadd", block.number(b, f"top_{part.name}"), down)
            b.close()

    def weight(self, offset: int, index: int) -> int:
        return self.b.load(self.weights_in, offset, index)

    def mean(self, block: Block, value: int) -> int:
        """A value divided by the length of the in-list of a block."""
        b = self.b
        if isinstance(block, Listed):
            count = b.load(self.table("counts", "f", np.maximum(self.counts, 1)), 0, block.s)
        else:
            count = b.op("real", block.number(b, "fan_in"))
        return b.op("div", value, count)
