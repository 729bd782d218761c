"""Delayed edges: what files say of them, and what they mean, by the interpreter of the graph."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nets import nets, to_nal, with_delays
from objects import same

import ncc
from ncc.cli import main
from ncc.formats.weights import init
from ncc.formats.write import write_nal, write_nam, write_nel
from ncc.ir.graph import Graph
from ncc.machine.header import graph_hash

STEPS = """N 05
out 03,04
00
01
02 tanh 00:0.5,~02:0.25,~03:-1,~00:2
03 relu 02:1.5,01:-0.5,~01:1 +0.125
04 identity mul 03:1,~04:-1 +1
"""


@given(nets(tame=False), st.integers(0, 2**32))
def test_every_format_holds_delayed_edges(net, seed):
    made = ncc.parse(with_delays(to_nal(net), seed))
    made.graph.verify()
    for format, text in (("nal", write_nal(made.graph)), ("nel", write_nel(made.graph)),
                         ("graph", str(made.graph))):
        assert str(ncc.parse(text, format).graph) == str(made.graph), text
    if made.states:
        with pytest.raises(ncc.NccError, match="values of the last call"):
            write_nam(made.graph)


def test_numbers_are_of_the_nets_own_neurons():
    net = ncc.parse(STEPS)
    assert (net.n_neurons, net.inputs, net.outputs, net.states) == (5, [0, 1], [3, 4],
                                                                     [0, 1, 2, 3, 4])
    assert repr(net) == "Net(5 neurons, 9 edges, 11 parameters, 2 inputs, 2 outputs, 5 states)"
    assert net.graph.inputs.tolist() == [0, 1, 5, 6, 7, 8, 9]
    assert write_nal(net.graph).splitlines()[0] == "N 05"


def test_a_delayed_edge_reads_the_value_of_the_last_call():
    """By a plain loop: every delayed value is that of the step before, whatever the order."""
    net, x = ncc.parse(STEPS), np.random.default_rng(0).standard_normal((20, 2))
    old = dict.fromkeys(range(5), 0.0)
    for row, y in zip(x, net.graph.run_steps(x, dtype="f64", numerics="strict"), strict=True):
        new = {0: row[0], 1: row[1]}
        new[2] = np.tanh(0.5 * new[0] + 0.25 * old[2] - old[3] + 2 * old[0])
        new[3] = max(0.0, 0.125 + 1.5 * new[2] - 0.5 * new[1] + old[1])
        new[4] = new[3] * -old[4] + 1
        np.testing.assert_allclose(y, [new[3], new[4]], rtol=1e-13)
        old = new


def test_streams_side_by_side_are_each_a_stream():
    net, x = ncc.parse(STEPS), np.random.default_rng(1).standard_normal((6, 3, 2))
    state = np.zeros((3, 5), np.float32)
    ys = net.graph.run_steps(x, state=state)
    for k in range(3):
        alone = np.zeros(5, np.float32)
        same(net.graph.run_steps(x[:, k], state=alone), ys[:, k])
        same(alone, state[k])


def test_a_state_is_saved_and_restored():
    net, x = ncc.parse(STEPS), np.random.default_rng(2).standard_normal((8, 2))
    state = np.zeros(5, np.float32)
    first = net.graph.run_steps(x[:5], state=state)
    saved = state.copy()
    rest = net.graph.run_steps(x[5:], state=state)
    same(np.concatenate([first, rest]), net.graph.run_steps(x))
    same(net.graph.run_steps(x[5:], state=saved), rest)
    with pytest.raises(ValueError, match="state is float64 of shape"):
        net.graph.run(x[0], state=np.zeros(5))


@pytest.mark.parametrize(("old", "new", "message"), [
    ("states 02", "states 04", "a state is no neuron"),
    ("states 02", "states 03", "another takes its value"),
    ("inputs 00 03", "inputs 00", "inputs are not the neurons"),
    ("03 @0 input", "03 @0 absent", "a state takes its value|inputs are not"),
    ("states 02", "states 02 02 02", "or is no input's"),
    ("states 02", "states 02 02", "stands behind a state neuron"),
])
def test_a_graph_with_wrong_states_is_refused(old, new, message):
    text = ("graph 04\ninputs 00 03\noutputs 02\nstates 02\nvalues 0.5 1.0\nconstants\n"
            "00 @0 input\n01 @0 absent\n02 @1 tanh sum 00*p0 03*p1\n03 @0 input\n")
    ncc.parse(text, "graph")
    with pytest.raises(ncc.NccError, match=message):
        ncc.parse(text.replace(old, new), "graph")


def test_states_of_a_graph_are_vectors():
    graph: Graph = ncc.parse(STEPS).graph
    with pytest.raises(ncc.NccError, match="states is no vector of int32"):
        graph.with_(states=graph.states.astype(np.int64)).verify()


def test_fan_out_counts_who_reads_the_last_value():
    net = ncc.parse("N 03\n00\n01 tanh 00,~01,~02\n02 relu 01,~01\n")
    assert net.graph.read_neurons.tolist() == [0, 1, 2, 1, 1]
    drawn = init(net.graph, "xavier", 3)
    fans = np.array([3 + 1, 3 + 3, 3 + 1, 2 + 3, 2 + 3])
    normal = np.random.default_rng(3).standard_normal(5)
    np.testing.assert_allclose(drawn, normal * np.sqrt(2 / fans))


def test_hashes_tell_states_apart():
    texts = ("graph 05\ninputs 00 04\noutputs 03\nstates 01\nvalues 1.0 2.0 3.0 4.0\n"
             "constants\n00 @0 input\n01 @1 tanh sum 00*p0\n02 @1 relu sum 00*p1\n"
             "03 @2 relu sum 02*p2 04*p3\n04 @0 input\n")
    one, other = (ncc.parse(text, "graph").graph
                  for text in (texts, texts.replace("states 01", "states 02")))
    assert graph_hash(one) != graph_hash(other)


def test_a_state_neuron_makes_no_index_longer(tmp_path, capsys):
    """256 neurons have indices of two digits, also where a state neuron is behind them."""
    path = tmp_path / "net.nal"
    path.write_text("N 100\n00\n01\n02 tanh 00,~02\n" + "".join(
        [f"{j:02x} tanh {j - 1:02x}\n" for j in range(3, 256)]))
    assert main(["check", str(path)]) == 0
    assert "warning[W001]: unused input 01\n" in capsys.readouterr().err
