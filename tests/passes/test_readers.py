"""The arrays of the looped backward pass, against what they are by definition."""

from __future__ import annotations

import numpy as np
import pytest
from nets import some_net, to_nal

import ncc
from ncc.passes.lower.reverse.accumulators import accumulators_of
from ncc.passes.lower.reverse.layout import (
    checkpoints_of,
    edges_of,
    elements_of,
    routes_of,
    row_classes,
)
from ncc.passes.lower.reverse.readers import readers_of, seed_arrays, unread_inputs
from ncc.passes.plan.group import group
from ncc.passes.plan.place import place

DENSE = "N 34\n" + "".join([
    *[f"{j:02x}\n" for j in range(16)],
    *[f"{j:02x} {code} " + ",".join(f"{i:02x}:0.5" for i in range(begin, begin + 16)) + " +\n"
      for code, begin, first in (("tanh", 0, 16), ("0", 16, 32)) for j in range(first, first + 16)],
    *[f"{j:02x} 0 20,1{j - 0x30:x}\n" for j in range(0x30, 0x34)]])


class Made:
    """All records of a plan, with stages of few rows where `budget` is small."""

    def __init__(self, text, form, batch, budget, unroll):
        graph = ncc.parse(text).graph
        self.plan = place(group(graph, form=form, batch_form=form, gradient=True,
                                backward_form="table", native=8))
        self.n_in, self.n_rows = len(graph.inputs), len(self.plan.rows)
        self.unroll = unroll
        self.edges = edges_of(self.plan)
        self.classes = row_classes(self.plan, batch)
        self.routes = routes_of(self.plan, self.edges, batch, "f32")
        self.stages = checkpoints_of(self.plan, self.edges, self.classes, 4, budget)
        self.elements = elements_of(self.plan, self.edges, self.stages, self.routes.scatters)
        self.readers = readers_of(self.plan, self.edges, self.classes, self.routes, self.stages,
                                  self.elements, unroll)
        self.gradient = accumulators_of(self.plan, self.edges, self.classes, self.routes,
                                        self.readers, batch)

    def list_of(self, k):
        """The edges of list k, as the loops walk them."""
        r = self.readers
        whole = r.edges[r.starts[k] : r.starts[k] + r.rounds[k] * max(1, self.unroll)]
        return [*whole.tolist(), *r.edges[r.rests[k] : r.rests[k + 1]].tolist()]


def every():
    for seed in range(12):
        text = to_nal(some_net(seed))
        yield Made(text, "table", seed % 2 == 0, (0, 40)[seed % 3 == 0], (0, 4)[seed % 4 > 0])
    for form in ("shared", "table"):
        for budget in (0, 200):
            yield Made(DENSE, form, True, budget, 4)


@pytest.fixture(scope="module")
def all_made():
    made = list(every())
    assert any(len(m.stages) > 1 for m in made) and any(m.routes.tiled.any() for m in made)
    assert any(m.readers.n_whole for m in made) and any(m.routes.pushed.any() for m in made)
    return made


def test_each_gathered_edge_is_on_the_list_of_its_source(all_made):
    for m in all_made:
        gathered = np.flatnonzero(m.routes.gathered)[::-1].tolist()  # the last reader first
        source, stage = m.edges.source, m.stages.of_row[m.edges.reader]
        inside = m.elements.inside
        for k, row in enumerate(m.readers.order.tolist()):
            assert m.list_of(k) == [e for e in gathered if inside[e]
                                    and source[e] == m.n_in + row]
        for c in range(len(m.stages)):
            for at in range(m.readers.stages[c], m.readers.stages[c + 1]):
                assert m.list_of(m.n_rows + at) == [
                    e for e in gathered if not inside[e] and stage[e] == c
                    and source[e] == m.readers.outside[at]]
        assert sorted(m.readers.edges.tolist()) == gathered[::-1]
        assert sorted(m.readers.order.tolist()) == list(range(m.n_rows))


def test_an_edge_reads_the_element_that_holds_its_source(all_made):
    """Of a row of its own stage the row's, of another value that of its checkpoint."""
    for m in all_made:
        e, stage = m.elements, m.stages.of_row
        live = {m.n_in + row: m.n_in + k for k, row in enumerate(m.stages.live.tolist())}
        for edge, v in enumerate(m.edges.source.tolist()):
            row = v - m.n_in
            if row >= 0 and stage[row] == stage[m.edges.reader[edge]]:
                assert e.inside[edge] and e.read[edge] == e.own[row]
            else:
                assert not e.inside[edge] and e.read[edge] == (v if row < 0 else live[v])
        for c in range(len(m.stages)):
            own = e.own[m.stages.rows[c] : m.stages.rows[c + 1]]
            assert own.tolist() == list(range(e.local, e.local + len(own)))


def test_each_edge_has_one_element_of_the_gradient_that_is_read(all_made):
    for m in all_made:
        cells = m.plan.cells
        held = m.gradient.cells[m.gradient.cells >= 0]
        counts = np.bincount(held, minlength=len(cells.codes))
        assert counts.max() == 1
        made = m.gradient.trained.copy()
        if m.readers.once is None:
            made[m.readers.edges] = True
        np.testing.assert_array_equal(counts[cells.edges], ~m.gradient.direct & made)
        assert counts[cells.biases[cells.biases >= 0]].all()
        ordered = np.flatnonzero(m.gradient.ordered & m.gradient.trained & ~m.gradient.direct)
        assert sorted(m.gradient.cells[m.gradient.by_lanes:].tolist()) == sorted(
            cells.edges[ordered].tolist())


def test_seeds_go_to_the_outputs_in_the_order_of_values(all_made):
    for m in all_made:
        outputs = m.edges.number[m.plan.graph.outputs]
        arrays = seed_arrays(m.plan, m.edges, m.elements, len(m.stages))
        by_value = [-1] * len(outputs)
        for k, rank in enumerate(arrays["seed_ranks"].tolist()):
            by_value[rank] = k
        for v in range(m.n_in + m.n_rows):
            begin, end = arrays["seed_starts"][v : v + 2]
            assert by_value[begin:end] == np.flatnonzero(outputs == v).tolist()
        unread = unread_inputs(m.plan, m.edges)
        assert unread.tolist() == [v not in {*m.edges.source.tolist(), *outputs.tolist()}
                                   for v in range(m.n_in)]
