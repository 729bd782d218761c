"""Populations: the bits of `ncc.compile`, for all nets at once."""

from __future__ import annotations

import pickle
import pickletools
import threading

import numpy as np
import pytest
from nets import some_net, to_nal
from objects import same

import ncc
from ncc.errors import NccError
from ncc.ir.graph import AGGREGATIONS

REALS = {"f32": np.float32, "f64": np.float64}
XOR = """\
N 05
00
01
02 sigmoid 00:5,01:-5 +-2
03 sigmoid 00:-5,01:5 +-2
04 sigmoid 02:5,03:5 +-2
"""
FEW = (0, 1, 2, 3, 0x15)  # activations: each kind of rows is code of its own to compile


def alike(count, seed=0, **options):
    """So many random nets with as many inputs and outputs as one another."""
    found = []
    while len(found) < count:
        net = ncc.parse(to_nal(some_net(seed, max_neurons=20, activations=FEW, **options)))
        seed += 1
        if (len(net.inputs), len(net.outputs)) == (3, 2):
            found.append(net)
    return found


@pytest.fixture(scope="module")
def nets():
    return alike(70)


@pytest.mark.parametrize("numerics", ["strict", "fused"])
@pytest.mark.parametrize("dtype", REALS)
@pytest.mark.each_choice
def test_the_bits_are_those_of_compile(nets, dtype, numerics):
    few = nets[:12]
    pop = ncc.population(few, dtype=dtype, numerics=numerics)
    x = np.random.default_rng(1).normal(size=(83, 3)).astype(REALS[dtype])
    obs = np.random.default_rng(2).normal(size=(12, 3)).astype(REALS[dtype])
    y, one, own = pop(x), pop(x[5]), pop.step(obs)
    assert y.shape == (12, 83, 2) and one.shape == own.shape == (12, 2)
    for k, net in enumerate(few):
        fn = ncc.compile(net, dtype=dtype, numerics=numerics)
        same(y[k], fn(x))
        same(one[k], fn(x[5]))
        same(own[k], fn(obs[k]))


def test_step_has_the_bits_of_the_interpreter(nets):
    for seed in range(3):
        obs = np.random.default_rng(seed).normal(size=(len(nets), 4, 3)).astype(np.float32)
        pop = ncc.population(nets)
        y = pop.step(obs)
        wanted = np.stack([net.graph.run(o, numerics=pop.numerics)
                           for net, o in zip(nets, obs, strict=True)])
        same(y, wanted)


def test_infinities_and_nan_stay_in_their_own_row(nets):
    obs = np.random.default_rng(0).normal(size=(len(nets), 3)).astype(np.float32)
    obs[3], obs[20], obs[41] = np.inf, np.nan, -np.inf
    pop = ncc.population(nets)
    same(pop.step(obs), np.stack([net.graph.run(o, numerics=pop.numerics)
                                  for net, o in zip(nets, obs, strict=True)]))


def test_nets_that_are_not_active_keep_their_y(nets):
    pop = ncc.population(nets)
    rng = np.random.default_rng(0)
    for share in (1.0, 0.9, 0.2, 0.0):
        obs = rng.normal(size=(len(nets), 3)).astype(np.float32)
        active = rng.random(len(nets)) < share
        before = pop.step(rng.normal(size=(len(nets), 3)))
        y = pop.step(obs, active=active)
        same(y[~active], before[~active])
        same(y[active], ncc.population(nets).step(obs)[active])
    assert (ncc.population(nets).step(obs, active=np.zeros(len(nets))) == 0).all()


@pytest.mark.parametrize("threads", [2, 3, 0])
def test_threads_change_no_bit(nets, threads):
    x = np.random.default_rng(1).normal(size=(40, 3)).astype(np.float32)
    obs = np.random.default_rng(2).normal(size=(len(nets) * 9, 3)).astype(np.float32)
    one, some = [ncc.population(nets * 9, threads=t) for t in (1, threads)]
    same(some(x), one(x))
    same(some.step(obs), one.step(obs))


def test_many_callers_at_once(nets):
    pop = ncc.population(nets)
    xs = [np.random.default_rng(k).normal(size=(50, 3)).astype(np.float32) for k in range(4)]
    wanted = [pop(x) for x in xs]
    found = [None] * 4

    def call(k):
        for _ in range(20):
            found[k] = pop(xs[k])

    callers = [threading.Thread(target=call, args=(k,)) for k in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    for a, b in zip(found, wanted, strict=True):
        same(a, b)


def test_its_nets_are_those_that_it_was_made_of(nets):
    pop = ncc.population(nets)
    assert len(pop) == len(nets)
    for net, again in zip(nets, pop, strict=True):
        again.graph.verify()
        same(again.params, net.params)
        assert again.n_edges == net.n_edges
        x = np.ones((2, 3), np.float32)
        same(again.graph.run(x), net.graph.run(x))
    same(pop[-1].params, nets[-1].params)
    with pytest.raises(IndexError):
        pop[len(nets)]


def test_parameters_are_views_and_set_as_a_whole(nets):
    pop = ncc.population(nets)
    x = np.ones((4, 3), np.float32)
    obs = np.ones((len(nets), 3), np.float32)
    pop(x), pop.step(obs)
    with pytest.raises(ValueError, match="read-only"):
        pop.params[0][:] = 1
    new = [p * 0.5 for p in pop.params]
    pop.params = new
    for k in (0, 7, 40):
        same(pop.params[k], new[k])
        fn = ncc.compile(nets[k], new[k], numerics=pop.numerics)
        same(pop(x)[k], fn(x))
        same(pop.step(obs)[k], fn(obs[k]))
    with pytest.raises(ValueError, match="vectors of parameters"):
        pop.params = new[1:]
    with pytest.raises(ValueError, match="parameters of net 3 have shape"):
        pop.params = [*new[:3], np.zeros(99), *new[4:]]
    with pytest.raises(ValueError, match="not finite"):
        pop.params = [new[0] + np.nan, *new[1:]]


def test_a_pickle_evaluates_as_it_did(nets):
    pop = ncc.population(nets)
    x, obs = np.ones((4, 3), np.float32), np.ones((len(nets), 3), np.float32)
    y, own = pop(x), pop.step(obs)
    again = pickle.loads(pickle.dumps(pop))
    same(again(x), y)
    same(again.step(obs), own)
    same(again[5].params, pop[5].params)


def test_texts_files_and_nets_may_be_mixed(tmp_path):
    (tmp_path / "xor.nal").write_text(XOR)
    pop = ncc.population([XOR, tmp_path / "xor.nal", str(tmp_path / "xor.nal"), ncc.parse(XOR)])
    y = pop([[0, 0], [0, 1], [1, 0], [1, 1]])
    assert (y == y[0]).all() and ((y[0, :, 0] > 0.5) == [False, True, True, False]).all()
    assert repr(pop).startswith("Population(4 nets, 2 inputs -> 1 outputs, 20 neurons, 24 edges, ")


def test_what_makes_no_population_is_refused():
    two = "N 03\n00\n01\n02 tanh 00:1,01:1\n"
    with pytest.raises(NccError, match="E650.*a net at least"):
        ncc.population([])
    with pytest.raises(NccError, match="E650.*net 1 has 1 inputs and 1 outputs, net 0 has 2 and 1"):
        ncc.population([two, "N 02\n00\n01 tanh 00:1\n"])
    with pytest.raises(ValueError, match="net 1 has parameters without values"):
        ncc.population([two, "N 03\n00\n01\n02 tanh 00:1,01\n"])([0, 0])
    pop = ncc.population([two])
    with pytest.raises(ValueError, match="x has shape"):
        pop(np.zeros((3, 3)))
    with pytest.raises(ValueError, match="obs has shape"):
        pop.step(np.zeros((2, 2)))
    with pytest.raises(ValueError, match="active has shape"):
        pop.step(np.zeros((1, 2)), active=[True, True])
    for call in (pop.reset, lambda: pop.state):
        with pytest.raises(TypeError, match="recurrent"):
            call()


def test_functions_of_files_are_told_apart_by_their_text():
    a = "N 02\nfn 20 x+1\nfn 21 x+2\n00\n01 21 00:1\n"
    b = "N 02\nfn 20 x+2\nfn 21 x+1\n00\n01 21 00:1\n"
    pop = ncc.population([a, b])
    assert pop([0.0]).ravel().tolist() == [2, 1]
    assert [net.graph.run([0.0])[0] for net in pop] == [2, 1]


def test_odd_nets_are_nets_too():
    """Outputs that are inputs, constants, and neurons that nobody reads."""
    nets = ["N 02\nout 00\n00\n01 tanh 00:1\n", "N 03\nout 02\n00\n01 tanh 00:1\n02 0 +=3\n",
            "N 02\nout 01\n00\n01 0 00:1 +1\n"]
    pop = ncc.population(nets)
    assert pop([[2.0], [5.0]])[:, :, 0].tolist() == [[2, 5], [3, 3], [3, 6]]
    assert pop.step([[2.0], [5.0], [7.0]]).ravel().tolist() == [2, 3, 8]
    assert pop(np.zeros((0, 1))).shape == (3, 0, 1)


def test_a_pickle_names_no_room(nets):
    data = pickle.dumps(ncc.population(nets[:3]))
    assert [op for op, what, _ in pickletools.genops(data)
            if isinstance(what, str) and what.startswith("ncc.")] == []


def test_a_pickle_holds_every_net_as_it_is(nets):
    """Ties, constants and own functions, or a slot for each edge and bias: small either way."""
    plain = ["N 04\n00\n01\n02 tanh 00:1,01:2 +3\n03 relu 02:4,00:5\n"] * 50
    for given, most in ((nets, 700), (plain, 120)):
        pop = ncc.population(given)
        data = pickle.dumps(pop)
        assert len(data) < most * len(given) + 2000
        for a, b in zip(pickle.loads(data), pop, strict=True):
            assert str(a.graph) == str(b.graph)


def test_a_net_out_of_a_population_is_labelled_and_says_what_its_file_says():
    texts = [XOR, XOR.replace("N 05\n", "N 05\nnumerics fused\ndtype f64\nlabel 00 left 2\n"
                              'label 04 "x or"\n'), XOR + "label 02 left\n"]
    nets = [ncc.parse(text) for text in texts]
    pop = ncc.population(nets, dtype="f64", numerics="fused")
    for again in (pop, pickle.loads(pickle.dumps(pop))):
        assert [str(net.graph) for net in again] == [str(net.graph) for net in nets]
    held = pop.__getstate__()
    for says in (held["nets"]["says"][:2], [(False, [(4, "two", (2,))], None, None)] * 3,
                 [(False, [], "exact", None)] * 3, [(False, [], None, "f16")] * 3):
        with pytest.raises(NccError) as caught:
            ncc.Population.__new__(ncc.Population).__setstate__(
                {**held, "nets": {**held["nets"], "says": says}})
        assert caught.value.code == "E301"


def arrays(rng, count, shared):
    """Random nets of 3 inputs and 2 outputs as arrays."""
    neurons = rng.integers(6, 14, count)
    net, source, target = [], [], []
    for k, n in enumerate(neurons.tolist()):
        for j in range(3, n):
            for i in rng.permutation(min(j, n - 2))[: rng.integers(1, 5)].tolist():
                net.append(k), source.append(i), target.append(j)
    mixed = rng.permutation(len(net))
    net, source, target = [np.array(a)[mixed] for a in (net, source, target)]
    total = int(neurons.sum())
    bias = np.where(rng.random(total) < 0.5, rng.normal(size=total), np.nan)
    return {"neurons": neurons, "net": net, "source": source, "target": target,
            "activation": rng.choice(FEW, total), "aggregation": rng.integers(0, 6, total),
            "bias": bias, "weight": None if shared else rng.normal(size=len(net))}


@pytest.mark.parametrize("shared", [False, True])
def test_nets_of_arrays_are_those_of_texts(shared):
    given = arrays(np.random.default_rng(3), 40, shared)
    pop = ncc.Population.from_edges(3, 2, **given)
    texts, at = [], 0
    for k, n in enumerate(given["neurons"].tolist()):
        lines = [f"N {n:x}", f"out {n - 2:x},{n - 1:x}", "0", "1", "2"]
        for j in range(3, n):
            edges = np.flatnonzero((given["net"] == k) & (given["target"] == j))
            weights = ["@w"] * len(edges) if shared else [
                f":{float(given['weight'][e])!r}" for e in edges]
            sources = ",".join(f"{given['source'][e]:x}{w}"
                               for e, w in zip(edges, weights, strict=True))
            bias, agg = given["bias"][at + j], given["aggregation"][at + j]
            word = ["sum", "mul", "mean", "max", "min", "maxabs"][agg]
            lines.append(f"{j:x} {given['activation'][at + j]:x} {word} {sources}"
                         + ("" if np.isnan(bias) else f" +{float(bias)!r}"))
        texts.append("\n".join(lines) + "\n")
        at += n
    wanted = ncc.population(texts)
    if shared:
        for some in (pop, wanted):
            some.params = [np.where(np.isnan(p), 0.75, p) for p in some.params]
    x = np.random.default_rng(0).normal(size=(9, 3)).astype(np.float32)
    same(pop(x), wanted(x))
    for a, b in zip(pop, wanted, strict=True):
        a.graph.verify()
        assert sorted(a.params) == sorted(b.params)
        assert shared or str(a.graph) == str(b.graph)


def test_arrays_that_make_no_nets_are_refused():
    good = {"neurons": [4, 4], "net": [0, 0, 1, 1], "source": [0, 2, 1, 2],
            "target": [2, 3, 2, 3], "activation": np.zeros(8), "weight": np.ones(4)}
    make = ncc.Population.from_edges
    assert make(2, 1, **good)([1.0, 2.0]).ravel().tolist() == [1, 2]

    def refused(match, n_inputs=2, n_outputs=1, kind=NccError, **changes):
        with pytest.raises(kind, match=match):
            make(n_inputs, n_outputs, **{**good, **changes})

    refused("E650.*a net at least", neurons=[], net=[], source=[], target=[], activation=[],
            weight=[])
    refused("E650.*net 1 has 2 neurons", neurons=[6, 2])
    refused("E650.*edge 3: source 9 of net 1", source=[0, 2, 1, 9])
    refused("E650.*edge 0: target 1 of net 0", target=[1, 3, 2, 3])
    refused("E650.*edge 2: .*net 7", net=[0, 0, 7, 1])
    refused("E650.*neuron 3 of net 0 has neither", target=[2, 2, 2, 3])
    for wrong in (9, 11, -1):  # a dot, and none
        refused(f"E650.*neuron 3 of net 1 has the aggregation {wrong}",
                aggregation=[0] * 7 + [wrong])
    assert make(2, 1, **good, aggregation=[0] * 7 + [10])([1.0, 2.0]).ravel().tolist() == [1, 2]
    refused("E116.*net 1: a cycle: 02 -> 03 -> 02", source=[0, 2, 3, 2])
    refused("weight has shape", kind=ValueError, weight=[1])
    refused("source has shape", kind=ValueError, source=[1])
    refused("of 8 neurons there are values", kind=ValueError, activation=[1])


def recurrent_nets(rng, count):
    """Any neuron reads any, itself too."""
    neurons = rng.integers(6, 14, count)
    net, source, target = [], [], []
    for k, n in enumerate(neurons.tolist()):
        for j in range(3, n):
            for i in rng.permutation(n)[: rng.integers(1, 5)].tolist():
                net.append(k), source.append(i), target.append(j)
    total = int(neurons.sum())
    return {"neurons": neurons, "net": np.array(net), "source": np.array(source),
            "target": np.array(target), "activation": np.full(total, 2),
            "bias": rng.normal(size=total), "weight": rng.normal(size=len(net))}


def test_recurrent_nets_read_the_step_before():
    given = recurrent_nets(np.random.default_rng(5), 300)
    pop = ncc.Population.from_edges(3, 2, **given, dtype="f64", recurrent=True)
    n, first = 300, np.cumsum([0, *given["neurons"]])
    values = np.zeros(first[-1])
    rng = np.random.default_rng(6)
    ends = [first[given["net"]] + given[name] for name in ("source", "target")]

    def by_hand(obs, active):
        at = first[:-1, None] + np.arange(3)
        seen = values.copy()
        seen[at] = obs
        sums = np.where(np.isnan(given["bias"]), 0, given["bias"])
        np.add.at(sums, ends[1], seen[ends[0]] * given["weight"])
        mine = np.repeat(active, given["neurons"])
        values[mine] = np.tanh(sums)[mine]
        return values[first[1:, None] - [2, 1]]

    everyone = np.ones(n, bool)
    for turn in range(12):
        obs = rng.normal(size=(n, 3))
        active = everyone if turn < 6 else rng.random(n) < 0.7
        y = pop.step(obs, active=active)
        np.testing.assert_allclose(y[active], by_hand(obs, active)[active], rtol=1e-9, atol=1e-12)
    state = pop.state
    following = pop.step(obs)
    assert (pop.step(obs) != following).any()
    pop.state = state
    same(pop.step(obs), following)
    again = pickle.loads(pickle.dumps(pop))
    same(again.step(obs), pop.step(obs))
    pop.reset()
    values[:] = 0
    np.testing.assert_allclose(pop.step(obs), by_hand(obs, everyone), rtol=1e-9, atol=1e-12)
    for wrong, kind in ((lambda: pop(obs), TypeError), (lambda: pop[0], TypeError),
                        (lambda: setattr(pop, "state", state[1:]), ValueError)):
        with pytest.raises(kind):
            wrong()


@pytest.mark.parametrize("recurrent", [False, True])
def test_a_forged_pickle_is_refused_or_stays_in_its_memory(recurrent):
    given = {"neurons": [5, 6], "net": [0] * 4 + [1] * 5, "source": [0, 1, 2, 3, 0, 1, 2, 3, 4],
             "target": [2, 3, 3, 4, 2, 3, 4, 5, 5], "activation": [2] * 11,
             "weight": np.arange(9) / 8, "bias": [0.5] * 11}
    pop = ncc.Population.from_edges(2, 1, **given, recurrent=recurrent)
    held = pop.__getstate__()
    rng = np.random.default_rng(3)
    ends = set()
    parts = [k for k, v in held["nets"].items() if isinstance(v, np.ndarray) and v.size]
    for name in parts * 12:
        forged = held["nets"][name].astype({"values": np.float64, "biases": np.uint8}.get(
            name, np.int64))  # of biases there are bits
        step = rng.choice([1, -1, 5, -7, 1000, 70_000])
        forged.flat[rng.integers(forged.size)] += step % 256 if name == "biases" else step
        again = ncc.Population.__new__(ncc.Population)
        try:
            again.__setstate__({**held, "nets": {**held["nets"], name: forged}})
            again.step(np.ones((2, 2)))
            if not recurrent:
                again(np.ones((5, 2)))
            ends.add((name, "went"))
        except NccError as error:
            assert error.code in ("E147", "E301"), error
            ends.add((name, error.code))
        except (IndexError, ValueError):
            ends.add((name, "no arrays of a graph"))
    assert {("inputs", "E301"), ("sources", "E301"), ("outputs", "E301"), ("slots", "E301"),
            ("values", "went")} <= ends


def test_forged_in_lists_that_loops_would_run_out_of_are_refused():
    """Half a pair, no first edge, no levels."""
    def refused(pop, changes, why):
        held = pop.__getstate__()
        with pytest.raises(NccError, match=why) as caught:
            pop.__class__.__new__(pop.__class__).__setstate__(
                {**held, "nets": {**held["nets"], **changes}})
        assert caught.value.code == "E301"

    pairs = ncc.population(["N 04\n00\n01\n02 identity dot 00*01,00*00 +1\n"
                            "03 identity dot 02*00,01*01 +1\n"])
    refused(pairs, {"lengths": np.array([0, 0, 3, 5])}, "neuron 02: its in-list is no pairs")
    refused(pairs, {"lengths": np.array([0, 0, 8, 0])}, "neuron 03: its aggregation has no in-list")
    refused(pairs, {"levels": None}, "without levels")
    code = AGGREGATIONS.index("sumbias")
    for recurrent in (False, True):
        pop = ncc.Population.from_edges(
            1, 1, neurons=[3], net=[0] * 3, source=[0, 0, 1], target=[1, 1, 2], activation=[2] * 3,
            weight=[1] * 3, bias=[1] * 3, aggregation=[code] * 3, recurrent=recurrent)
        refused(pop, {"lengths": np.array([0, 0, 3])}, "in-list")
        refused(pop, {"lengths": np.array([0, 3, 0])}, "in-list")
