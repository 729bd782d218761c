"""SharpNEAT's `.net`: functions and files against a reading of its source, file faults, state."""

import math
from fractions import Fraction

import numpy as np
import pytest
from oracles import compare, mutants, shared, survives

import ncc
from ncc.formats.importers.foreign import opened
from ncc.formats.importers.registry import read
from ncc.formats.importers.sharpneat import FUNCTIONS, RATIONAL

EXACT = {"dtype": "f64", "numerics": "fused"}
ARGUMENTS = np.concatenate([
    np.random.default_rng(0).normal(size=200), np.random.default_rng(1).normal(size=50) * 1e3,
    [0.0, -0.0, 1.0, -1.0, 0.001, 0.999, 1.001, 0.5, -0.5, 0.499, -0.499, 1e-300, -1e-300, 5e-324,
     -5e-324, 1e9, -1e9, 1e70, -1e70, 1e100, -1e100, math.inf, -math.inf]])


def fma(a, b, c):
    """a*b + c, rounded once; of zeros and what is not finite as the plain sum."""
    if not (math.isfinite(a) and math.isfinite(b) and math.isfinite(c)):
        return a * b + c
    exact = Fraction(a) * Fraction(b) + Fraction(c)
    return exact.numerator / exact.denominator if exact else a * b + c


def exp(x):
    return math.exp(x) if x < 709.7 else math.inf


def srelu(x):
    if 0.001 < x < 0.999:
        return x
    return 0.001 + (x - 0.001) * 0.00001 if x <= 0.001 else 0.999 + (x - 0.999) * 0.00001


def polynomial(x):
    x *= 4.9
    x2 = x * x
    e = 1 + abs(x) + x2 * 0.555 + x2 * x2 * 0.143
    return 1 / (1 + (1 / e if x > 0 else e))


def quadratic(x):
    sign, y = (-1.0, -x) if x < 0 else (1.0, x)
    y = 0.999 - (y - 0.999) * (y - 0.999) if y < 0.999 else 0.999 + (y - 0.999) * 0.00001
    return y * sign * 0.5 + 0.5


def asinh(x):
    inner = x + math.sqrt(x * x + 1)
    return 1.2567348023993685 * (((math.log(inner) if inner else -math.inf) + 1) * 0.5)


def gaussian(x):
    return exp(-((x * 2.5) * (x * 2.5)))


def selu(x):
    scale, alpha = 1.0507009873554804934193349852946, 1.6732632423543772848170429916717
    return scale * x if x >= 0 else scale * (alpha * exp(x) - alpha)


READINGS = {  # of src/SharpNeat/NeuralNets/ActivationFunctions
    "ReLU": lambda x: max(x, 0.0) if x else 0.0,
    "LeakyReLU": lambda x: x * 0.001 if x < 0 else x,
    "LeakyReLUShifted": lambda x: (x + 0.5) * 0.001 if x + 0.5 < 0 else x + 0.5,
    "SReLU": srelu,
    "SReLUShifted": lambda x: srelu(x + 0.5),
    "MaxMinusOne": lambda x: -1.0 if x < -1 else x,
    "SoftSignSteep": lambda x: 0.5 + x / (2 * (0.2 + abs(x))),
    "PolynomialApproximantSteep": polynomial,
    "QuadraticSigmoid": quadratic,
    "NullFn": lambda x: 0.0,
    "Linear": lambda x: -1.0 if x < -1 else 1.0 if x > 1 else x,
    "Logistic": lambda x: 1 / (1 + exp(-x)),
    "LogisticSteep": lambda x: 1 / (1 + exp(-4.9 * x)),
    "TanH": math.tanh,
    "ArcTan": math.atan,
    "ArcSinH": asinh,
    "ScaledELU": selu,
    "BipolarSigmoid": lambda x: 2 / (1 + exp(-4.9 * x)) - 1,
    "Sine": lambda x: math.sin(2 * x) if math.isfinite(x) else math.nan,
    "Gaussian": gaussian,
    "BipolarGaussian": lambda x: 2 * gaussian(x) - 1,
}


def text(inputs=1, outputs=1, kind="acyclic", edges=((0, 1, 1.0),), function="ReLU", more=""):
    lines = "".join(f"{s}\t{t}\t{w!r}\n" for s, t, w in edges)
    return f"# sizes\n{inputs}\t{outputs}\n\n{kind}\n\n{lines}\n0\t{function}\n{more}\n"


@pytest.fixture
def saved(tmp_path):
    def save(words):
        path = tmp_path / "some.net"
        path.write_bytes(words if isinstance(words, bytes) else words.encode())
        return path
    return save


def evaluated(inputs, outputs, edges, f, x):
    """NeuralNetAcyclic: nodes by depth, connections by source, accumulators that start at 0."""
    hidden = sorted({n for s, t, _ in edges for n in (s, t)} - set(range(inputs + outputs)))
    nodes = [*range(inputs + outputs), *hidden]
    depth = dict.fromkeys(nodes, 0)
    reached = set(range(inputs))
    for _ in nodes:
        for s, t, _ in edges:
            if s in reached:
                reached.add(t)
                depth[t] = max(depth[t], depth[s] + 1)
    place = {n: k for k, n in enumerate(
        [*range(inputs), *sorted(nodes[inputs:], key=lambda n: (depth[n], nodes.index(n)))])}
    value = dict.fromkeys(nodes, 0.0) | dict(enumerate(x))
    ordered = sorted(edges, key=lambda e: (place[e[0]], place[e[1]]))
    done = set()
    for level in range(max(depth.values())):
        for s, t, w in ordered:
            if depth[s] == level:
                value[t] = fma(value[s], w, value[t])
        for n in nodes[inputs:]:
            if depth[n] <= level + 1 and n not in done:
                done.add(n)
                value[n] = f(value[n])
    return [value[n] for n in range(inputs, inputs + outputs)]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_function_is_that_of_the_source(saved, name):
    net = ncc.load(saved(text(function=name)))
    y = net.graph.run(ARGUMENTS[:, None], **EXACT)[:, 0]
    expected = np.array([READINGS[name](float(x)) for x in ARGUMENTS])
    if name in RATIONAL:
        np.testing.assert_array_equal(y, expected)
    else:
        np.testing.assert_allclose(y, expected, rtol=1e-13, atol=4e-15)
    assert set(READINGS) == set(FUNCTIONS)


@pytest.mark.parametrize("name", ["example1", "example2", "binary11", "binary-three-multiplexer"])
def test_shared_files_have_the_bits_of_an_exact_evaluation(name, tmp_path):
    path = shared(f"sharpneat/{name}.net")
    found = np.load(path.with_suffix(".npz"))
    made = read([opened(path)])
    assert (made.exactness, made.graph.numerics, made.graph.dtype) == ("A", "fused", "f64")
    net = ncc.load(path)
    compare(path, net.graph.run(found["x"], **EXACT), found["y"], "A")
    fn = ncc.compile(net, **EXACT)
    compare(path, fn(found["x"]), found["y"], "A")
    assert bool(made.notes) == (name == "example1")


def random_edges(rng, inputs, outputs, hidden, count, forward):
    """Edges between random ids; `forward` from a lower place in a random order to a higher."""
    ids = [*range(inputs, inputs + outputs), *(int(k) for k in rng.choice(900, hidden, False) + 50)]
    order = [*range(inputs), *(ids[k] for k in rng.permutation(len(ids)))]
    made = {}
    for _ in range(count):
        a, b = (int(k) for k in sorted(rng.choice(len(order), 2, False)))
        if not forward and rng.random() < 0.5:
            a, b = b, a
        if order[b] >= inputs:
            made[order[a], order[b]] = float(rng.normal())
    return [(s, t, w) for (s, t), w in made.items()]


@pytest.mark.parametrize("seed", range(12))
def test_random_nets_with_orphans_have_the_bits_of_the_source(saved, seed):
    rng = np.random.default_rng(seed)
    inputs, outputs = int(rng.integers(1, 4)), int(rng.integers(1, 4))
    edges = random_edges(rng, inputs, outputs, 7, 16, True)
    name = sorted(RATIONAL)[seed % len(RATIONAL)]
    net = ncc.load(saved(text(inputs, outputs, edges=edges, function=name)))
    x = rng.normal(size=(15, inputs)).round(3)
    expected = [evaluated(inputs, outputs, edges, READINGS[name], [float(v) for v in r]) for r in x]
    np.testing.assert_array_equal(net.graph.run(x, **EXACT), expected)


def test_what_no_input_reaches(saved):
    edges = [(9, 8, 2.0), (8, 2, 3.0), (0, 2, 0.5), (9, 3, 1.0)]
    path = saved(text(2, 2, edges=edges, function="SoftSignSteep"))
    (note,) = read([opened(path)]).notes
    assert note.startswith("no input reaches 3 neurons: 3 connections")
    np.testing.assert_array_equal(ncc.load(path).graph.run([[2.0, 1.0]], **EXACT),
                                  [[0.5 + 1 / (2 * 1.2), 0.5]])
    alone = ncc.load(saved(text(1, 1, edges=(), function="SoftSignSteep")))
    np.testing.assert_array_equal(alone.graph.run([[2.0]], **EXACT), [[0.0]])


@pytest.mark.parametrize("cycles", [1, 2, 5])
@pytest.mark.parametrize("reset", [False, True])
def test_a_cyclic_net_keeps_its_state_or_begins_from_zero(saved, cycles, reset):
    rng = np.random.default_rng(cycles)
    edges = random_edges(rng, 2, 2, 4, 22, False)
    path = saved(text(2, 2, f"cyclic {cycles}", edges, "LeakyReLU"))
    net = ncc.load(path, **({"state": "reset"} if reset else {}))
    x = rng.normal(size=(6, 2))
    state, expected = {}, []
    for row in x:
        state = {} if reset else state
        for _ in range(cycles):
            now = dict(enumerate(float(v) for v in row)) | state
            total = {n: 0.0 for e in edges for n in e[:2] if n > 1} | {2: 0.0, 3: 0.0}
            for s, t, w in sorted(edges):
                total[t] = fma(now.get(s, 0.0), w, total[t])
            state = {n: READINGS["LeakyReLU"](v) for n, v in total.items()}
        expected.append([state[2], state[3]])
    run = net.graph.run if reset else net.graph.run_steps
    np.testing.assert_array_equal(run(x, **EXACT), expected)
    assert bool(net.states) != reset


def test_shared_cyclic_file():
    path = shared("sharpneat/example3.net")
    assert ncc.load(path, state="reset").graph.run([[1, 2, 3]], **EXACT).tolist() == [[18377, 6264]]
    net = ncc.load(path)
    fn, x = ncc.compile(net, **EXACT), np.random.default_rng(0).normal(size=(5, 3))
    np.testing.assert_array_equal(fn.steps(x), net.graph.run_steps(x, **EXACT))
    (note,) = read([opened(path)]).notes
    assert note.startswith("a call is 3 steps, from where the call before ended")


GOOD = text()


@pytest.mark.parametrize("words, code, line, message", [
    ("1 x\n\nacyclic\n\n0 1 1\n\n0 ReLU\n", "E801", 1, "a number of outputs"),
    (text(outputs=0, edges=()), "E801", 2, "without outputs"),
    (GOOD.replace("acyclic", "maybe"), "E801", 4, "acyclic is wanted"),
    (GOOD.replace("acyclic", "acyclic 3"), "E801", 4, "acyclic is wanted"),
    (GOOD.replace("acyclic", "cyclic 0"), "E813", 4, "no step at all"),
    (GOOD.replace("acyclic\n\n", "acyclic\n"), "E801", 5, "an empty line"),
    (text(edges=[(0, 0, 1.0)]), "E801", 6, "into 0, which is an input"),
    (text(edges=[(-1, 1, 1.0)]), "E801", 6, "the id of a source"),
    (text(edges=[(0, 1, 1.0), (0, 1, 2.0)]), "E801", 7, "a second connection"),
    (text(edges=[(0, 1, math.nan)]), "E801", 6, "a weight is wanted here, a finite number"),
    (text(edges=[(0, 1, math.inf)]), "E801", 6, "a weight"),
    (GOOD.replace("1.0", "1,5"), "E801", 6, "a weight"),
    (GOOD.replace("\t1.0", ""), "E801", 6, "source, target and weight"),
    (text(edges=[(1, 1, 1.0)]), "E812", 0, "a cycle: 1 -> 1"),
    (text(edges=[(0, 1, 1.0), (7, 9, 1.0), (9, 7, 1.0)]), "E812", 0, "9 -> 7 -> 9"),
    (GOOD.replace("ReLU", "LogisticApproximantSteep"), "E811", 8, "no function of SharpNEAT"),
    (GOOD.replace("0\tReLU", "1\tReLU"), "E801", 8, "function 0 is wanted"),
    (GOOD.replace("0\tReLU\n", ""), "E801", 0, "functions is empty"),
    ("1 1\n\n", "E801", 3, "acyclic"),
    (text(inputs=10**9), "E819", 2, "1000000001 inputs and outputs"),
    (text(kind="cyclic 1000000000"), "E819", 0, "1000000000 neurons in 1000000000 steps"),
    (text(inputs=2**31), "E801", 2, "a number of inputs"),
])
def test_what_is_refused(saved, words, code, line, message):
    with pytest.raises(ncc.NccError) as caught:
        ncc.load(saved(words), source="sharpneat")
    assert caught.value.code == code and message in str(caught.value)
    assert (f"some.net:{line}:" in str(caught.value)) == bool(line)


def test_state_has_one_other_word(saved):
    with pytest.raises(ncc.NccError, match="--state soon: of this format it is reset"):
        ncc.load(saved(text(kind="cyclic 2")), state="soon")


def test_an_import_is_the_same_net_as_the_texts_of_it(saved, tmp_path, ncc_):
    path = saved(text(2, 2, "cyclic 2", [(0, 2, 0.5), (3, 2, 1.5), (2, 9, -0.25), (9, 3, 0.1)],
                      "SReLU", "1\tLogistic\n"))
    x = np.random.default_rng(0).normal(size=(9, 2))
    expected = ncc.load(path).graph.run_steps(x, **EXACT)
    for ending in ("graph", "nal"):
        out = tmp_path / f"kept.{ending}"
        assert ncc_("import", str(path), "-o", str(out))[0] == 0
        kept = ncc.load(out)
        np.testing.assert_array_equal(kept.graph.run_steps(x, **EXACT), expected)
        assert (kept.graph.numerics, kept.graph.dtype) == ("fused", "f64")


@pytest.mark.parametrize("seed", [0, 1, pytest.param(2, marks=pytest.mark.slow)])
def test_broken_files_are_refused_or_read(tmp_path, seed):
    data = text(2, 2, "cyclic 3" if seed else "acyclic",
                [(0, 5, 0.5), (5, 3, 1e-3), (1, 2, -2.0)], "SReLU", "1 Sine\n\n2 0\n").encode()
    codes = {survives(tmp_path / "m.net", made, source="sharpneat")
             for made in mutants(data, seed, 2000 if seed > 1 else 100)}
    assert {None, "E801", "E811"} <= codes
