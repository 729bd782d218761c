"""Genomes of goNEAT and Stanley's: functions and files against a reading of goNEAT's source."""

import math

import numpy as np
import pytest
from oracles import compare, mutants, shared, survives

import ncc
from ncc.formats.importers.foreign import opened
from ncc.formats.importers.goneat import FUNCTIONS, RATIONAL
from ncc.formats.importers.registry import read
from ncc.formats.importers.yaml_subset import document

EXACT = {"dtype": "f64", "numerics": "strict"}
ARGUMENTS = np.concatenate([
    np.random.default_rng(0).normal(size=200) * 2, np.random.default_rng(1).normal(size=50) * 1e3,
    [0.0, -0.0, 1.0, -1.0, 4.0, -4.0, 0.5, -0.5, 1e-300, -1e-300, 5e-324, -5e-324, 1e9, -1e9,
     1e200, -1e200, math.inf, -math.inf]])


def exp(x):
    return math.exp(x) if x < 709.7 else math.inf


def sigmoid(x):
    return 1 / (1 + exp(-x))


def pieces(x, edge, factor):
    if x < -edge:
        return 0.0
    if x < 0:
        return (x + edge) * (x + edge) * factor
    return 1 - (x - edge) * (x - edge) * factor if x < edge else 1.0


def gaussian(x):
    return exp(-(x * x))


READINGS = {  # of neat/math/activations.go
    "SigmoidPlain": sigmoid,
    "SigmoidReduced": lambda x: sigmoid(0.5 * x),
    "SigmoidSteepened": lambda x: sigmoid(4.924273 * x),
    "SigmoidBipolar": lambda x: 2 / (1 + exp(-4.924273 * x)) - 1,
    "SigmoidApproximation": lambda x: pieces(x, 4.0, 0.03125),
    "SigmoidSteepenedApproximation": lambda x: pieces(x, 1.0, 0.5),
    "SigmoidInverseAbsolute": lambda x: 0.5 + (x / (1 + abs(x))) * 0.5,
    "SigmoidLeftShifted": lambda x: 1 / (1 + exp(-x - 2.4621365)),
    "SigmoidLeftShiftedSteepened": lambda x: sigmoid(4.924273 * x + 2.4621365),
    "SigmoidRightShiftedSteepened": lambda x: sigmoid(4.924273 * x - 2.4621365),
    "Tanh": lambda x: math.tanh(0.9 * x),
    "GaussianBipolar": lambda x: 2 * gaussian(x * 2.5) - 1,
    "Gaussian": gaussian,
    "Linear": lambda x: x,
    "LinearAbs": abs,
    "LinearClipped": lambda x: -1.0 if x < -1 else 1.0 if x > 1 else x,
    "Null": lambda x: 0.0,
    "Sign": lambda x: 0.0 if x == 0 else math.copysign(1.0, x),
    "Sine": lambda x: math.sin(2 * x) if math.isfinite(x) else math.nan,
    "Step": lambda x: 0.0 if math.copysign(1.0, x) < 0 else 1.0,
}

SMALL = """/* a comment */
genomestart 1
trait 1 0.1 0 0 0 0 0 0 0
node 1 0 1 3
node 2 0 1 1
node 3 0 1 1 NullActivation
node 4 0 0 2
node 5 0 0 0 LinearActivation
node 6 0 0 0 TanhActivation
node 7 0 0 2 SineActivation
gene 1 5 4 0.5 0 1 0 1
gene 1 2 5 1.5 false 2 0 true
gene 1 1 5 -0.25 0 3 0.1 1
gene 1 3 4 2.5 0 4 0 0
gene 1 6 4 9 0 5 0 1
gene 1 6 7 9 0 6 0 1
genomeend 1
"""
BLOCKS = """genome:
    genes:
        - enabled: true
          innov_num: 1
          mut_num: 0
          recurrent: false
          src_id: 1
          tgt_id: 3
          trait_id: 1
          weight: 2.5  # a comment
        - {enabled: 1, innov_num: 2, mut_num: 0, recurrent: 0,
           src_id: 2, tgt_id: 3, trait_id: 1, weight: -1}
    id: 1
    nodes:
    -   activation: 'NullActivation'
        id: 1
        trait_id: 0
        type: BIAS
    - activation: NullActivation
      id: 2
      type: "INPT"
    - {id: 3, type: OUTP, activation: LinearActivation}
    traits: []
"""


@pytest.fixture
def saved(tmp_path):
    def save(words, name="some.genome"):
        path = tmp_path / name
        path.write_text(words)
        return path
    return save


def one(function):
    return (f"genomestart 1\nnode 1 0 1 1\nnode 2 0 0 2 {function}Activation\n"
            "gene 1 1 2 1 0 1 0 1\ngenomeend 1\n")


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_function_is_that_of_the_source(saved, name):
    """Of the sum 0 + 1 x, which is 0 at -0."""
    y = ncc.load(saved(one(name))).graph.run(ARGUMENTS[:, None], **EXACT)[:, 0]
    expected = np.array([READINGS[name](0 + float(x)) for x in ARGUMENTS])
    if name in RATIONAL:
        np.testing.assert_array_equal(y, expected)
        assert (np.signbit(y) == np.signbit(expected))[~np.isnan(expected)].all()
    else:
        np.testing.assert_allclose(y, expected, rtol=1e-13, atol=1e-15)
    assert set(READINGS) == set(FUNCTIONS)


@pytest.mark.parametrize("name", ["random_0.genome", "random_0.yml", "random_1.genome",
                                  "random_1.yml"])
def test_shared_genomes_settle_at_the_values_of_the_stepping_rule(name):
    path = shared(f"goneat/{name}")
    found = np.load(path.with_suffix(".npz"))
    made = read([opened(path)])
    assert (made.graph.numerics, made.graph.dtype) == ("strict", "f64")
    compare(path, ncc.load(path).graph.run(found["x"], **EXACT), found["y"], made.exactness)


@pytest.mark.parametrize("name, inputs", [
    ("xorstartgenes", 2), ("xorstartgenes.yml", 2), ("xordisconnectedstartgenes", 2),
    ("pole1startgenes", 4)])
def test_shared_seeds_are_sigmoids_of_nothing(name, inputs):
    net = ncc.load(shared(f"goneat/{name}"), source="goneat")
    assert len(net.inputs) == inputs
    assert (net.graph.run(np.ones((1, inputs)), **EXACT) == 0.5).all()


def test_shared_genome_whose_modules_make_a_cycle_is_refused():
    with pytest.raises(ncc.NccError, match="a cycle: ") as caught:
        ncc.load(shared("goneat/test_seed_genome.yml"))
    assert caught.value.code == "E812"


def settled(nodes, genes, x, modules=()):
    """The stepping rule of network.go: all neurons from the values of the step before, until they
    stay; those into which nothing active came are not switched on. Modules come last in a step."""
    value = {}
    inputs = iter(x)
    for key, kind, _ in nodes:
        value[key] = {1: lambda: next(inputs), 3: lambda: 1.0}.get(kind, lambda: 0.0)()
    active = {key: kind in (1, 3) for key, kind, _ in nodes}
    for _ in range(2 * len(nodes) + 1):
        total, on = dict.fromkeys(value, 0.0), dict(active)
        for source, target, weight in genes:
            total[target] += weight * value[source]
            on[target] |= active[source]
        active = on
        for key, kind, function in nodes:
            if kind in (0, 2) and active[key]:
                value[key] = READINGS[function](total[key])
        for name, sources, target in modules:
            read = [value[source] for source in sources]
            value[target] = {"Multiply": math.prod, "Max": max, "Min": min}[name](read)
            active[target] = True
    return [value[key] for key, kind, _ in nodes if kind == 2]


def of_yaml(nodes, genes, modules):
    kinds = ("HIDN", "INPT", "OUTP", "BIAS")
    def links(keys):
        return "[" + ", ".join(f"{{id: {key}, order: {k}}}" for k, key in enumerate(keys)) + "]"
    rows = ["genome:", "  nodes:"]
    rows += [f"  - {{id: {key}, type: {kinds[kind]}, activation: {function}Activation}}"
             for key, kind, function in nodes]
    rows += ["  genes:"]
    rows += [f"  - {{src_id: {s}, tgt_id: {t}, weight: {w!r}, recurrent: false, enabled: true}}"
             for s, t, w in genes]
    rows += ["  modules:"]
    rows += [f"  - {{activation: {name}ModuleActivation, enabled: true, inputs: {links(sources)}, "
             f"outputs: {links([target])}}}" for name, sources, target in modules]
    return "\n".join(rows) + "\n"


@pytest.mark.parametrize("seed", range(6))
def test_modules_have_the_bits_of_the_stepping_rule(saved, seed):
    rng = np.random.default_rng(seed)
    nodes = [(k + 1, kind, sorted(RATIONAL)[int(rng.integers(len(RATIONAL)))])
             for k, kind in enumerate([1, 1, 3, 0, 0, 0, 0, 0, 0, 0, 2, 2])]
    pairs = {tuple(sorted(rng.choice(12, 2, False).tolist())) for _ in range(20)}
    genes = [(a + 1, b + 1, float(rng.normal())) for a, b in pairs if b > 2]
    modules = [(name, sorted((rng.choice(target - 1, 2, False) + 1).tolist()), target)
               for name, target in (("Multiply", 6), ("Max", 8), ("Min", 9), ("Multiply", 12))]
    net = ncc.load(saved(of_yaml(nodes, genes, modules), "some.yml"))
    x = rng.normal(size=(10, 2))
    expected = [settled(nodes, genes, [float(v) for v in row], modules) for row in x]
    np.testing.assert_array_equal(net.graph.run(x, **EXACT), expected)


MODULAR = of_yaml([(1, 1, "Null"), (2, 0, "Linear"), (3, 2, "Linear")], [(1, 2, 1.0), (2, 3, 1.0)],
                  [("Multiply", [1, 2], 3)])


@pytest.mark.parametrize("before, after, code, message", [
    ("MultiplyModule", "DivideModule", "E811", "/genome/modules/0: error[E811]: DivideModule"),
    ("{id: 2, order: 1}", "{id: 9, order: 1}", "E801", "a module names node 9"),
    ("{id: 2, order: 1}", "{id: 1, order: 1}", "E801", "reads a node twice"),
    ("[{id: 3, order: 0}]", "[]", "E801", "reads nodes and writes one"),
    ("{id: 3, order: 0}", "{id: 1, order: 0}", "E801", "writes 1, which is an input"),
    ("{id: 2, order: 1}", "{id: 3, order: 1}", "E812", "a cycle: 3 -> 3"),
])
def test_which_modules_are_refused(saved, before, after, code, message):
    with pytest.raises(ncc.NccError) as caught:
        ncc.load(saved(MODULAR.replace(before, after), "some.yml"))
    assert caught.value.code == code and message in str(caught.value)
    assert ncc.load(saved(MODULAR, "some.yml")).graph.run([[3.0]])[0, 0] == 9


@pytest.mark.parametrize("seed", range(8))
def test_random_genomes_have_the_bits_of_the_stepping_rule(saved, seed):
    rng = np.random.default_rng(seed)
    kinds = [1, 1, 3, 2, 2, 0, 0, 0, 0, 0]
    nodes = [(k + 1, kinds[k], sorted(RATIONAL)[int(rng.integers(len(RATIONAL)))])
             for k in rng.permutation(len(kinds)).tolist()]
    order = [n[0] for n in sorted(nodes, key=lambda n: (n[1] in (0, 2), rng.random()))]
    pairs = {tuple(sorted(rng.choice(10, 2, False).tolist())) for _ in range(16)}
    genes = [(order[a], order[b], float(rng.normal())) for a, b in pairs if b > 2]
    rows = [f"node {k} 0 0 {kind} {function}Activation" for k, kind, function in nodes]
    rows += [f"gene 1 {s} {t} {w!r} false 1 0 true" for s, t, w in genes]
    net = ncc.load(saved("\n".join(["genomestart 3", *rows, "genomeend 3"])))
    x = rng.normal(size=(10, 2))
    expected = [settled(nodes, genes, [float(v) for v in row]) for row in x]
    np.testing.assert_array_equal(net.graph.run(x, **EXACT), expected)


def test_what_is_off_is_0_and_what_is_assumed_is_said(saved):
    path = saved(SMALL)
    made = read([opened(path)])
    assert [note.split(":")[0] for note in made.notes] == [
        "1 disabled genes are left out", "no sensor reaches 2 nodes", "node 1 is a bias",
        "the values are the settled ones, after as many time steps as the net is deep"]
    x = 0.3
    np.testing.assert_allclose(
        ncc.load(path).graph.run([[x, 5]], **EXACT),
        [[sigmoid(4.924273 * (0.5 * (1.5 * x - 0.25))), 0]], rtol=1e-15)


def test_blocks_as_goneat_writes_them_are_read(saved):
    net = ncc.load(saved(BLOCKS, "some.yml"))
    np.testing.assert_array_equal(net.graph.run([[0.5]], **EXACT), [[2.0]])


@pytest.mark.parametrize("words, code, message", [
    (SMALL.replace("node 5", "node 6"), "E801", ":9:6: error[E801]: a second node 6"),
    (SMALL.replace("LinearAct", "UnknownAct"), "E811", ":8:"),
    (SMALL.replace("LinearActivation", "Linear"), "E811", "no activation of goNEAT's"),
    (SMALL.replace("gene 1 5 4 0.5 0", "gene 1 5 4 0.5 1"), "E812", "from 5 to 4 is recurrent"),
    (SMALL.replace("gene 1 6 4", "gene 1 4 5"), "E812", "a cycle: 5 -> 4 -> 5"),
    (SMALL.replace("gene 1 6 4", "gene 1 8 4"), "E801", "node 8, which stands nowhere above"),
    (SMALL.replace("gene 1 6 4", "gene 1 5 4"), "E801", "a second gene from 5 to 4"),
    (SMALL.replace("gene 1 6 4", "gene 1 6 2"), "E801", "into 2, which is an input"),
    (SMALL.replace("gene 1 6 4 9", "gene 1 6 4 nan"), "E801", ":15:12: error[E801]: a weight"),
    (SMALL.replace("gene 1 6 4 9 0", "gene 1 6 4 9 2"), "E801", "true or false"),
    (SMALL.replace("gene 1 6 4 9 0", "gene 1 6 4 9"), "E801", "a line of 8 words"),
    (SMALL.replace("node 6 0 0 0", "node 6 0 0 4"), "E810", "4 is no kind of node"),
    (SMALL.replace("/* a comment */", "word"), "E801", ":1:1: error[E801]: a line of 1 words"),
    (SMALL + SMALL, "E801", "a second genome"),
    (SMALL.replace("node 4 0 0 2", "node 4 0 0 0").replace("node 7 0 0 2", "node 7 0 0 0"),
     "E801", "without a node of kind OUTP"),
    (BLOCKS.replace("OUTP", "HIDN"), "E801", "without a node of kind OUTP"),
    (BLOCKS.replace("OUTP", "OTHER"), "E810", "/genome/nodes/2: error[E810]: OTHER"),
    (BLOCKS.replace("weight: -1", "weight: .inf"), "E801", "/genome/genes/1/weight: "),
    (BLOCKS.replace("weight: -1", "weight: " + "9" * 5000), "E801", "/genome/genes/1/weight: "),
    (BLOCKS.replace("weight: -1", "weight: *a"), "E801", "anchors, tags and the like"),
    (BLOCKS.replace("weight: -1}", "weight: -1"), "E801", ":11:11: error[E801]: a comma or }"),
    (BLOCKS.replace("weight: -1", "weight: " + "[" * 100), "E801", "within each other"),
    (BLOCKS.replace("    id: 1", "    id: 1\n    id: 2"), "E801", ":14:5: error[E801]: the name"),
    (BLOCKS.replace("    id: 1", "\tid: 1"), "E801", ":13:1: error[E801]: tabs"),
    (BLOCKS.replace("Activation'", "Activation"), "E801", "quotation without end"),
    (BLOCKS.replace("    id: 1", "  id: 1"), "E801", "belongs to nothing above it"),
    (BLOCKS.replace("src_id: 2", "src_id: x"), "E801", "/genome/genes/1/src_id: "),
    (BLOCKS.replace("    nodes:", "    other:"), "E801", "/genome: error[E801]: 'nodes' is miss"),
    ("genome:\n" + "\n".join("  " * k + "- " for k in range(1, 50)), "E801", "within each other"),
])
def test_what_is_refused(saved, words, code, message):
    with pytest.raises(ncc.NccError) as caught:
        ncc.load(saved(words), source="goneat")
    assert caught.value.code == code and message in str(caught.value)


@pytest.mark.parametrize("words, expected", [  # as PyYAML reads them, but 1e-3 as Go does
    ("a: [1, -2.5, 'x # y', \"q\", true, null, ~, {b: {}, c: []}]  # end\n",
     {"a": [1, -2.5, "x # y", "q", True, None, None, {"b": {}, "c": []}]}),
    ("- a: 1\n  b:\n  - 2\n  - c: x y\n-\n  - 1.5e+3\n- [a,\n   b]\n- don't\n- 'it''s'\n- \n",
     [{"a": 1, "b": [2, {"c": "x y"}]}, [1500.0], ["a", "b"], "don't", "it's", None]),
    ("---\na:\nb: c#d\n'e f': {g: -1, h: [ ]}\n", {"a": None, "b": "c#d",
                                                   "e f": {"g": -1, "h": []}}),
    ("a:\n  - - 1\n    - 2\n  - {x: {y: z}, w: 1e-3}\n", {"a": [[1, 2], {"x": {"y": "z"},
                                                                  "w": 0.001}]}),
])
def test_the_subset_of_yaml(saved, words, expected):
    assert document(opened(saved(words, "some.yml")).as_text()).value == expected


def test_an_import_is_the_same_net_as_the_texts_of_it(saved, tmp_path, ncc_):
    path = saved(SMALL)
    x = np.random.default_rng(0).normal(size=(9, 2))
    for ending in ("graph", "nal"):
        out = tmp_path / f"kept.{ending}"
        assert ncc_("import", str(path), "-o", str(out))[0] == 0
        np.testing.assert_array_equal(ncc.load(out).graph.run(x, **EXACT),
                                      ncc.load(path).graph.run(x, **EXACT))


@pytest.mark.parametrize("words", [SMALL, BLOCKS], ids=["lines", "yaml"])
@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_broken_files_are_refused_or_read(tmp_path, words, seed):
    codes = {survives(tmp_path / "m.genome", made, source="goneat")
             for made in mutants(words.encode(), seed, 2000 if seed else 100)}
    assert {None, "E801"} <= codes
