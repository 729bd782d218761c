"""Where the sweep back over a table finds what it reads: the arrays that its loops walk."""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import numpy as np

from ncc.ir.graph import Longs
from ncc.ir.ssa import DTYPES
from ncc.passes.lower.backward_frame import Sweep
from ncc.scalar.derivative import reads_argument
from ncc.scalar.expressions import expression

TURNS, PAIRS = 2, 4  # pairs of an activation and an aggregation: that take turns; in all


class Kind(NamedTuple):
    """Rows that are computed by the same code, in blocks with as much `room`; `direct` where the
    weights of each are consecutive slots, to whose gradient a tile adds in `dparams` itself. No
    activation where rows of all kinds are summed up before any is activated."""

    activation: int | None
    aggregation: int
    biased: bool
    room: int
    direct: bool


class _Blocks(NamedTuple):
    """Rows cut into blocks: `rows` are their borders; the block of each row; the rows that another
    block reads; the rows of the largest block."""

    rows: Longs
    of_row: Longs
    passed: Longs
    widest: int


class Places(Sweep):
    """Rows, readers, segments and blocks of a plan as tables, and the memory of the sweep.

    `values` holds the inputs, then what blocks of rows pass on to later blocks, then the values of
    one block's rows, at their places; without `recompute` there is one block.
    """

    def before(self) -> None:
        b, g, plan = self.b, self.g, self.plan
        self.batch = bool(self.lanes)
        # Readers at a time: a batch keeps in registers a sum over the lanes for each, the value,
        # and the adjoint.
        self.round = 4 if self.registers <= 16 else max(4, min(self.native, 8))
        n_rows, n_in = len(plan.rows), self.n_inputs
        number = np.zeros(g.n_neurons, np.int64)  # inputs first, then rows
        number[g.inputs] = np.arange(n_in)
        number[plan.rows] = n_in + np.arange(n_rows)
        sources = number[g.sources[plan.edges]]
        reader = np.repeat(np.arange(n_rows), np.diff(plan.starts))
        self.prefix = (plan.prefixes(self.dtype) if self.batch
                       else np.zeros(n_rows, np.int64))
        self.segments()
        self.additive = plan.additive
        self.room = plan.sizes[plan.block_of]  # of each row's block
        # Whose edges' parts of adjoints are added up where they belong, and not gathered there: and
        # so are those of all other edges from the same sources, each in its turn.
        self.tiled = self.additive & (self.room > 1) & self.batch
        pushes = ~self.additive | self.tiled
        self.scatters = bool(pushes.any())
        mixed = np.zeros(n_in + n_rows, bool)
        mixed[sources[pushes[reader]]] = True
        self.pushed = (~pushes)[reader] & mixed[sources]
        argument = any(reads_argument(expression(run.activation, g.functions))
                       for run in plan.runs)
        cells = 1 + argument + self.scatters + self.mixed  # for each place
        blocks = self.cut(number, sources, reader, cells)
        passed, block = blocks.passed, blocks.of_row
        n_blocks = len(blocks.rows) - 1
        self.n_blocks = n_blocks

        # Places: where a reader finds what it reads.
        self.local = n_in + len(passed)
        local = self.local + np.arange(n_rows) - blocks.rows[block]
        # Nowhere is the last cell of `adjoints`, to which nothing is added.
        nowhere = self.local + (blocks.widest if self.scatters else 0)
        slot = np.full(n_in + n_rows, nowhere)
        slot[:n_in] = np.arange(n_in)
        slot[n_in + passed] = n_in + np.arange(len(passed))
        row = sources - n_in
        inside = row >= 0
        inside[inside] = block[row[inside]] == block[reader[inside]]
        places = slot[sources]
        places[inside] = local[row[inside]]
        self.table("places", "i", places)
        self.table("starts", "i", plan.starts)
        self.table("weights", "i", self.row_weights())
        self.table("biases", "i", np.maximum(plan.bias_places, 0))
        self.table("segment_places", "i", np.append(local[self.firsts], 0))
        if self.tiled.any():
            self.tiles(places, local)
        if n_blocks > 1:
            ends = np.arange(n_blocks + 1)
            self.table("passed_starts", "i", np.searchsorted(block[passed], ends))
            self.table("passed_places", "i", local[passed])
            self.table("slots", "i", slot[n_in:])
            self.table("block_segments", "i", np.searchsorted(self.firsts, blocks.rows))
            self.table("again", "i", np.arange(n_blocks) < n_blocks - 1)

        if self.mixed:
            self.turns(local, block)

        # Readers, of those edges whose parts are gathered: for each row those in its own block; for
        # each block the values from outside that it reads, and their readers; from the last one on.
        gathered = np.flatnonzero((~pushes)[reader] & ~mixed[sources])[::-1]
        keys = np.where(inside, row, n_rows + block[reader] * (n_in + n_rows) + sources)[gathered]
        by = np.argsort(keys, kind="stable")
        gathered, keys = gathered[by], keys[by]
        outside = np.unique(keys[np.searchsorted(keys, n_rows):])
        borders = np.arange(n_blocks + 1)  # of the lists of outside values, by block
        if n_blocks == 1:
            outside = n_rows + np.arange(n_in)  # all inputs, whose gradient is dx
            borders = np.array([0, n_in])
        else:
            borders = np.searchsorted((outside - n_rows) // (n_in + n_rows), borders)
            self.table("import_starts", "i", borders)
            self.table("import_slots", "i", slot[(outside - n_rows) % (n_in + n_rows)])
        listed = np.concatenate([np.arange(n_rows), outside])
        begins = np.searchsorted(keys, listed)
        counts = np.searchsorted(keys, listed, side="right") - begins
        # The lists of a segment's rows by length: loops of one length after another are foreseen by
        # the machine. But rows that push go from the last one on.
        segment = np.repeat(np.arange(self.n_segments), np.diff(np.append(self.firsts, n_rows)))
        order = np.lexsort((-np.arange(n_rows) if self.scatters else counts[:n_rows], segment))
        self.table("order", "i", order)
        self.table("order_places", "i", np.append(local[order], np.arange(n_in)))
        lists = np.concatenate([order, np.arange(n_rows, len(counts))])
        begins, counts = begins[lists], counts[lists]
        # First the whole rounds of all lists, one after another as they are walked, so that memory
        # is read from end to end; then what is left of them.
        whole = counts // self.round * self.round * (not self.mixed)
        rank = np.arange(len(gathered)) - np.repeat(np.cumsum(counts) - counts, counts)
        by = np.repeat(begins, counts) + rank
        gathered = gathered[by[np.argsort(rank >= np.repeat(whole, counts), kind="stable")]]
        self.n_whole = int(whole.sum())
        rests = self.n_whole + np.concatenate([[0], np.cumsum(counts - whole)])
        self.table("reader_starts", "i", np.cumsum(whole) - whole)
        self.table("reader_rounds", "i", whole // self.round)
        self.table("reader_rests", "i", rests)
        self.table("readers", "i", local[reader[gathered]])
        self.table("reader_edges", "i", plan.weight_places[gathered])
        self.table("rest_sources", "i", places[gathered[self.n_whole:]])
        # The rests of a segment's rows, then of each block's values from outside.
        groups = np.concatenate([self.firsts, n_rows + borders])
        self.table("group_rests", "i", rests[groups[:-1]])
        self.group_rests = np.diff(rests[groups])
        self.gradient(gathered, reader, places)
        seeded = np.argsort(number[g.outputs], kind="stable")
        counts = np.bincount(number[g.outputs], minlength=n_in + n_rows)
        self.table("seed_starts", "i", np.concatenate([[0], np.cumsum(counts)]))
        held = slot if n_blocks > 1 else np.concatenate([np.arange(n_in), local])
        self.table("output_places", "i", held[number[g.outputs]])
        self.table("seed_places", "i", held[number[g.outputs][seeded]])
        self.table("seed_ranks", "i", np.argsort(seeded))
        read = np.zeros(n_in, bool)
        read[sources[sources < n_in]] = True
        read[number[g.outputs][number[g.outputs] < n_in]] = True
        self.unread = ~read

        # The last block's tiles may reach beyond it.
        room = int(self.room[self.tiled].max(initial=1))
        self.memory("values", self.local + blocks.widest + room - 1)
        if argument:
            self.memory("sums", blocks.widest + room - 1)
        if self.mixed:
            self.memory("pulled", self.widest_turn)
        self.memory("seeds", self.n_outputs)
        if self.scatters or n_blocks > 1:
            self.memory("adjoints", nowhere + 1)
        if not self.additive.all():
            self.memory("products", int(np.diff(plan.starts)[~self.additive].max()))
        if self.batch:
            if "dx" not in self.named:  # the sweep forward alone wants no weights turned
                self.only_if(b.emit("given", (), "dparams"))
            # The weights in the order of the readers: read from end to end for each round.
            self.memory("turned", len(gathered), shared=True)
            k = b.loop(b.index(0), b.index(len(gathered)))[0]
            b.store(b.load("packed", 0, self.cell("reader_edges", 0, k)), "turned", 0, k)
            b.close()
            if "dx" not in self.named:
                b.close()

    def row_weights(self) -> Longs:
        """Where the weights of each row begin in `packed`."""
        plan = self.plan
        side = np.arange(len(plan.rows)) - plan.blocks[plan.block_of]
        return np.maximum(plan.weights[plan.block_of] + side, 0)

    def gradient(self, gathered: Longs, reader: Longs, places: Longs) -> None:
        """The cells of the gradient: first those of edges that are gathered, in their order, then
        those of the others: of tiles, row by row, of those that are pushed, of biases; and what is
        summed up in order at the end.

        Of a gathered edge that is summed up in order the first cell goes to nobody, and it has
        another one. Those of direct rows have none, but are slots of `dparams`."""
        plan, codes = self.plan, self.plan.packed
        weights = self.g.weights[plan.edges]
        position = np.arange(len(weights)) - plan.starts[:-1][reader]
        ordered = position < self.prefix[reader]
        at_once = np.repeat([self.kinds[k].direct for k in self.segment_kinds.tolist()],
                            np.diff(np.append(self.firsts, len(plan.rows)))).astype(bool)
        listed = np.zeros(len(weights), bool)
        listed[gathered] = True
        tiled = self.tiled[reader]
        direct = tiled & at_once[reader]
        apart = ~listed & ~tiled & ~ordered
        # By cell: the place in `packed` whose gradient it is, -1 for nobody's.
        # Biases row by row, or a cell for each row for which a block has room.
        of_biases = plan.bias_places[plan.bias_places >= 0]
        if self.batch:
            of_biases = np.arange(int((plan.sizes * np.diff(plan.starts)[plan.blocks[:-1]]).sum()),
                                  len(codes))
        parts = [np.where(ordered[gathered], -1, plan.weight_places[gathered]),
                 plan.weight_places[tiled & ~direct & ~ordered], plan.weight_places[apart],
                 of_biases, plan.weight_places[ordered & ~direct]]
        cells = np.concatenate(parts).astype(np.int64)
        n_lanes = len(cells) - len(parts[-1])
        self.cells(n_lanes, np.where(cells >= 0, codes[cells], -1),
                   np.where(cells >= 0, plan.canonical[cells], -1), bool(direct.any()))
        number = np.arange(len(cells))
        number[n_lanes:] += self.ends.has_loss
        cell_of = np.zeros(len(codes) + 1, np.int64)
        cell_of[cells[cells >= 0]] = number[cells >= 0]

        # Where the cells of each row's edges begin: of those summed up by lanes, and in order.
        for name, chosen in (("rows", tiled & ~ordered | ~self.additive[reader]),
                             ("rows_in_order", tiled & ordered)):
            held = np.flatnonzero(chosen)
            first = held[np.diff(reader[held], prepend=-1) != 0]
            begins = np.zeros(len(plan.rows), np.int64)
            begins[reader[first]] = np.where(direct[first], weights[first],
                                             cell_of[plan.weight_places[first]])
            self.table(f"gradient_of_{name}", "i", begins)
        for name, at in (("biases", plan.bias_places), ("block_biases", plan.biases),
                         ("segment_biases", np.append(plan.bias_places[self.firsts], -1))):
            self.table(f"gradient_of_{name}", "i", cell_of[at])
        # Edges by themselves: those that are pushed, and those that are summed up in order though
        # their row is no tile's.
        pushed, alone = np.flatnonzero(self.pushed), np.flatnonzero(ordered & ~tiled)
        self.any_pushed, self.any_alone = len(pushed) > 0, len(alone) > 0
        for name, held in (("pushed", pushed), ("alone", alone)):
            self.table(f"{name}_starts", "i", np.searchsorted(held, plan.starts))
            self.table(f"{name}_places", "i", places[held])
            self.table(f"{name}_cells", "i", cell_of[plan.weight_places[held]])
        self.table("pushed_weights", "i", plan.weight_places[pushed])
        self.table("pushed_by_lanes", "i", ~ordered[pushed])

    def segments(self) -> None:
        """Stretches of rows of one kind, level and fan-in; for each kind, which of its rows lie in
        each segment, so that one piece of code serves all the segments of a kind. A last segment
        without rows stands for the inputs."""
        plan, g = self.plan, self.g
        assert g.levels is not None
        bounds = np.array([(plan.blocks[p.first], plan.blocks[p.last]) for p in plan.segments],
                          np.int64).reshape(-1, 2)
        first, last = bounds[:, 0], bounds[:, 1]
        run_of = np.searchsorted([run.first for run in plan.runs], first, side="right") - 1
        broken = plan.broken()
        odd = broken[plan.starts[last]] > broken[plan.starts[first]]
        # A slot that has a second edge, or is a bias too, is added up apart.
        codes = np.concatenate([g.weights[plan.edges], g.biases[plan.rows]])
        uses = np.bincount(codes[codes >= 0], minlength=g.n_params + 1)
        weights = g.weights[plan.edges]
        tied = np.concatenate([[0], np.cumsum((weights >= 0) & (uses[np.maximum(weights, 0)] > 1))])
        odd |= tied[plan.starts[last]] > tied[plan.starts[first]]
        kinds = [Kind(run.activation, run.aggregation, run.biased, segment.rows,
                      self.lanes > 1 and segment.rows > 1 and direct)
                 for segment, run, direct in zip(
                     plan.segments, [plan.runs[k] for k in run_of.tolist()], (~odd).tolist(),
                     strict=True)]
        self.n_segments = len(first)
        self.firsts = first
        self.segment_edges = np.array([*[p.fan_in for p in plan.segments], 0], np.int64)
        pairs = [kind[:2] for kind in kinds]
        turns = sum([a != b for a, b in pairwise(pairs)]) >= len(set(pairs))
        # Where many pairs take turns, code that each of them has is kept short.
        self.mixed = len(set(pairs)) > (TURNS if turns else PAIRS)
        if self.mixed:
            kinds = [kind._replace(activation=None) for kind in kinds]
        self.kinds = list(dict.fromkeys(kinds))
        number = np.array([self.kinds.index(kind) for kind in kinds], np.int64)
        self.segment_kinds = number
        self.kind_rows = [np.append(np.where(number == k, last - first, 0), 0)
                          for k in range(len(self.kinds))]
        self.table("segment_rows", "i", np.append(first, [len(plan.rows)] * 2))
        self.table("segment_edges", "i", self.segment_edges)
        self.first_blocks = np.array([*[p.first for p in plan.segments], 0], np.int64)
        for k, rows in enumerate(self.kind_rows):
            self.table(f"rows_{k}", "i", rows)
    def turns(self, local: Longs, block: Longs) -> None:
        """Turns: the rows of one depth in one block, which do not read each other; in each, which
        rows have which activation."""
        plan, g = self.plan, self.g
        assert g.levels is not None
        depths = g.levels[plan.rows]
        new = (np.diff(depths, prepend=-1) != 0) | (np.diff(block, prepend=-1) != 0)
        turn = np.cumsum(new) - 1
        n_turns = int(turn[-1]) + 1
        borders = np.append(np.flatnonzero(new), len(turn))
        self.turn_segments = np.searchsorted(self.firsts, borders)
        # One more, of the inputs.
        self.table("turn_segments", "i", np.append(self.turn_segments, self.n_segments + 1))
        self.table("turn_places", "i", np.append(local[borders[:-1]], 0))
        self.widest_turn = int(np.diff(borders).max())
        self.table("block_turns", "i", np.searchsorted(borders[:-1], np.searchsorted(
            block, np.arange(self.n_blocks + 1))))
        acts, number = np.unique(g.activations[plan.rows], return_inverse=True)
        self.acts = acts.tolist()
        key = turn * len(acts) + number
        self.table("act_places", "i", local[np.argsort(key, kind="stable")])
        self.table("act_starts", "i", np.searchsorted(
            np.sort(key), np.arange((n_turns + 1) * len(acts) + 1)))

    def cut(self, number: Longs, sources: Longs, reader: Longs, cells: int) -> _Blocks:
        """One block, or as few as keep the values of a round of samples within `recompute` bytes;
        where none do, those that take least."""
        n_rows = len(self.plan.rows)
        size = np.dtype(DTYPES[self.dtype]).itemsize * max(1, self.lanes) * cells
        best: tuple[int, _Blocks] | None = None
        count = 1
        while count <= max(1, self.n_segments):
            ideal = np.arange(count + 1) * n_rows / count
            ends = np.append(self.firsts, n_rows)
            rows = np.unique(ends[np.searchsorted(ends, ideal)])
            rows = rows if len(rows) > 1 else np.array([0, n_rows])
            block = np.searchsorted(rows, np.arange(n_rows), side="right") - 1
            row = sources - self.n_inputs
            inner = row >= 0
            across = row[inner][block[row[inner]] != block[reader[inner]]]
            seen = number[self.g.outputs] - self.n_inputs
            if len(rows) > 2:
                across = np.concatenate([across, seen[seen >= 0]])
            passed = np.unique(across)
            widest = int(np.diff(rows).max(initial=0))
            made = _Blocks(rows, block, passed, widest)
            need = (self.n_inputs + len(passed) + widest) * size
            if best is None or need < best[0]:
                best = need, made
            if not self.recompute or need <= self.recompute:
                break
            count += max(1, count // 2)
        assert best is not None
        return best[1]

    def tiles(self, places: Longs, local: Longs) -> None:
        """Tables of the blocks."""
        plan = self.plan
        leader = plan.blocks[:-1]
        lengths = np.diff(plan.starts)[leader]
        owner = np.repeat(np.arange(len(leader)), lengths)
        at = np.repeat(plan.starts[leader] - np.cumsum(lengths) + lengths, lengths)
        read = places[at + np.arange(len(at))]
        inner = np.bincount(owner, read >= self.n_inputs, len(leader)) > 0
        # A source twice in an in-list: row by row, its adjoint takes one part after the other.
        pairs = np.sort(owner * (int(places.max(initial=0)) + 1) + read)
        self.repeats = bool((pairs[1:] == pairs[:-1]).any())
        self.table("block_starts", "i", plan.starts[leader])
        self.table("block_weights", "i", plan.weights)
        self.table("block_biases", "i", np.maximum(plan.biases, 0))
        self.table("block_places", "i", local[leader])
        self.table("block_rows", "i", np.diff(plan.blocks))
        self.table("block_firsts", "i", leader)
        self.table("block_inner", "i", inner)
        self.table("block_outer", "i", ~inner)
        self.table("segment_blocks", "i", self.first_blocks)
        counts = np.array([*[p.last - p.first for p in plan.segments], 0])
        for k, rows in enumerate(self.kind_rows):
            self.table(f"blocks_{k}", "i", np.where(rows > 0, counts, 0))
