"""Operations over arrays of neurons, against torch in float64."""

import numpy as np
import pytest

from ncc.formats.importers.tensors import attention as att
from ncc.formats.importers.tensors import contraction as con
from ncc.formats.importers.tensors import elementwise as ew
from ncc.formats.importers.tensors import norms, recurrent
from ncc.formats.importers.tensors.net import ZERO, Neurons, TensorNet, Weights
from ncc.passes.graph.order import order

torch = pytest.importorskip("torch")
F = torch.nn.functional


def run(net, outputs, x):
    """y (batch, n) of x (batch, inputs), and the graph."""
    graph, *_ = net.graph([("y", outputs)], dtype="f64")
    return order(graph).run(x.reshape(len(x), -1), dtype="f64"), graph


def agree(make, theirs, shape, seed=0):
    """What `make` makes of an input tensor is what torch makes of each of three samples."""
    net = TensorNet()
    x = np.random.default_rng(seed).normal(size=(3, *shape))
    made = make(net, net.input("x", shape))
    y, graph = run(net, made, x)
    with torch.no_grad():
        expected = np.stack([np.asarray(theirs(torch.tensor(row))) for row in x])
    assert made.shape == expected.shape[1:]
    np.testing.assert_allclose(y, expected.reshape(3, -1), rtol=1e-12, atol=1e-13)
    return graph


def drawn(net, name, *shape, seed=1):
    values = np.random.default_rng([seed, *map(ord, name)]).normal(size=shape)
    return net.parameter(name, values), torch.tensor(values)


def test_a_dense_layer_takes_its_activation_and_its_parameters_in_order():
    def make(net, x):
        w, _ = drawn(net, "w", 5, 4)
        b, _ = drawn(net, "b", 5)
        return ew.unary(net, con.linear(net, x, w, b), "tanh")

    net = TensorNet()
    _, w = drawn(net, "w", 5, 4)
    _, b = drawn(net, "b", 5)
    graph = agree(make, lambda x: torch.tanh(F.linear(x, w, b)), (4,))
    assert graph.n_neurons == 9 and graph.n_params == 25 and not graph.names
    held = np.concatenate([w.numpy(), b.numpy()[:, None]], axis=1).ravel()
    np.testing.assert_array_equal(graph.values, held)


def test_pruned_weights_are_no_edges_and_parameters_know_their_slots():
    net = TensorNet()
    x = net.input("x", (3,))
    w = net.parameter("w", [[1.0, 2.0, 0.0], [0.0, 4.0, 5.0]])
    mask = np.array([[1, 0, 1], [0, 1, 1]], bool)
    pruned = Weights(np.where(mask, w.values, 0), np.where(mask, w.slots, -1).astype(np.int32))
    graph, slots, _ = net.graph([("y", con.linear(net, x, pruned))])
    assert graph.n_edges == 4 and graph.values.tolist() == [1.0, 0.0, 4.0, 5.0]
    assert slots["w"].tolist() == [[0, -1, 1], [-1, 2, 3]]
    net = TensorNet(keep_zeros=False)
    x = net.input("x", (3,))
    graph, *_ = net.graph([("y", con.linear(net, x, net.parameter("w", [[1.0, 0.0, 2.0]])))])
    assert graph.n_edges == 2


@pytest.mark.parametrize("dims, stride, padding, dilation, groups", [
    (1, 1, 0, 1, 1), (1, 2, 2, 2, 3), (2, 1, 1, 1, 1), (2, 2, 1, 1, 3), (2, 1, 2, 2, 6),
    (3, 1, 1, 1, 1), (3, 2, 0, 1, 2)])
def test_convolutions(dims, stride, padding, dilation, groups):
    shape, kernel = (6, *[7, 6, 5][:dims]), [3, 2, 2][:dims]
    call = [F.conv1d, F.conv2d, F.conv3d][dims - 1]
    held = {}

    def make(net, x):
        w, held["w"] = drawn(net, "w", 12, 6 // groups, *kernel)
        b, held["b"] = drawn(net, "b", 12)
        return con.conv(net, x, w, b, stride=[stride] * dims, padding=[(padding,) * 2] * dims,
                        dilation=[dilation] * dims, groups=groups)

    agree(make, lambda x: call(x[None], held["w"], held["b"], stride, padding, dilation,
                               groups)[0], shape)


@pytest.mark.parametrize("dims, stride, padding, extra, dilation, groups", [
    (1, 1, 0, 0, 1, 1), (1, 3, 1, 2, 2, 2), (2, 2, 1, 1, 1, 1), (2, 2, 2, 0, 1, 3)])
def test_transposed_convolutions(dims, stride, padding, extra, dilation, groups):
    shape, kernel = (6, *[5, 4][:dims]), [3, 2][:dims]
    call = [F.conv_transpose1d, F.conv_transpose2d][dims - 1]
    held = {}

    def make(net, x):
        w, held["w"] = drawn(net, "w", 6, 2, *kernel)
        return con.conv_transposed(net, x, w, None, stride=[stride] * dims,
                                   padding=[(padding,) * 2] * dims, dilation=[dilation] * dims,
                                   groups=groups, output_padding=[extra] * dims)

    agree(make, lambda x: call(x[None], held["w"], None, stride, padding, extra, groups,
                               dilation)[0], shape)


def test_pools():
    two = [2, 2]
    agree(lambda net, x: con.pool(net, x, "max", [3, 3], stride=two, padding=[(1, 1)] * 2),
          lambda x: F.max_pool2d(x, 3, 2, 1), (2, 7, 6))
    for counts in (True, False):
        agree(lambda net, x: con.pool(net, x, "mean", [3, 3], stride=two,  # noqa: B023
                                      padding=[(1, 1)] * 2, counts_border=counts),  # noqa: B023
              lambda x: F.avg_pool2d(x, 3, 2, 1, count_include_pad=counts), (2, 7, 6))  # noqa: B023
    agree(lambda net, x: con.adaptive_pool(net, x, "mean", two),
          lambda x: F.adaptive_avg_pool2d(x, 2), (2, 6, 4))
    agree(lambda net, x: con.global_pool(net, x, "max"),
          lambda x: x.amax((1, 2), keepdim=True), (2, 3, 4))
    with pytest.raises(ValueError, match="do not divide"):
        con.adaptive_pool(TensorNet(), Neurons(np.zeros((1, 5, 4), np.int32)), "max", two)


def test_elementwise_and_reductions():
    c = np.random.default_rng(3).normal(size=(2, 1)) + 3

    def make(net, x):
        held = ew.binary(net, "sub", net.constants(c), x)
        held = ew.binary(net, "mul", held, ew.binary(net, "div", x, net.constants(c)))
        held = ew.binary(net, "add", held, ew.binary(net, "max", x, net.constants(0.25)))
        return ew.binary(net, "div", held, ew.unary(net, x, "1+x^2"))

    t = torch.tensor(c)
    agree(make, lambda x: ((t - x) * (x / t) + x.clamp(min=0.25)) / (1 + x * x), (2, 3))
    for how, call in (("sum", lambda x: x.sum(1)), ("mean", lambda x: x.mean(1)),
                      ("mul", lambda x: x.prod(1)), ("max", lambda x: x.amax(1)),
                      ("min", lambda x: x.amin(1)), ("l1", lambda x: x.abs().sum(1)),
                      ("l2", lambda x: x.norm(dim=1)), ("logsumexp", lambda x: x.logsumexp(1))):
        agree(lambda net, x: ew.reduce(net, x, [1], how), call, (2, 3, 4))  # noqa: B023
    agree(lambda net, x: ew.softmax(net, x, 0), lambda x: x.softmax(0), (4, 3))
    agree(lambda net, x: ew.softmax(net, x, log=True), lambda x: x.log_softmax(-1), (4, 3))
    agree(lambda net, x: ew.clip(net, x, -0.5, np.inf), lambda x: x.clamp(min=-0.5), (4,))
    agree(lambda net, x: ew.concatenated(net, [x, net.constants(np.ones((1, 3))), x], 0),
          lambda x: torch.cat([x, torch.ones(1, 3), x]), (2, 3))


@pytest.mark.parametrize("a, b", [((4, 3), (3, 2)), ((2, 4, 3), (3, 2)), ((4, 3), (5, 3, 2)),
                                  ((3,), (3, 2)), ((4, 3), (3,)), ((3,), (3,))])
def test_products_of_matrices(a, b):
    right = np.random.default_rng(0).normal(size=b)
    agree(lambda net, x: con.matmul(net, x, net.constants(right)),
          lambda x: x @ torch.tensor(right), a)
    left = np.random.default_rng(0).normal(size=a)
    agree(lambda net, x: con.matmul(net, net.constants(left), x),
          lambda x: torch.tensor(left) @ x, b)
    agree(lambda net, x: con.matmul(net, x, ew.unary(net, x.moved(lambda h: h.T), "tanh")),
          lambda x: x @ torch.tanh(x.T), (3, 4))


def test_norms():
    held = {}

    def batch(net, x):
        mean, held["m"] = drawn(net, "m", 3)
        variance = Weights(np.array([0.5, 1.0, 2.0]))
        scale, held["g"] = drawn(net, "g", 3)
        return norms.batch_norm(net, x, Weights(mean.values), variance, scale, None, 1e-5)

    agree(batch, lambda x: F.batch_norm(x[None], held["m"], torch.tensor([0.5, 1, 2.0]).double(),
                                        held["g"], None)[0], (3, 2, 2))

    def layer(net, x):
        scale, held["g"] = drawn(net, "g", 2, 4)
        shift, held["b"] = drawn(net, "b", 2, 4)
        return norms.layer_norm(net, x, 2, scale, shift, 1e-5)

    graph = agree(layer, lambda x: F.layer_norm(x, (2, 4), held["g"], held["b"]), (3, 2, 4))
    assert graph.n_neurons <= 24 + 3 * (5 * 8 + 2)

    def group(net, x):
        scale, held["g"] = drawn(net, "g", 4)
        return norms.group_norm(net, x, 2, scale, None, 1e-3)

    agree(group, lambda x: F.group_norm(x[None], 2, held["g"], None, 1e-3)[0], (4, 3))


@pytest.mark.parametrize("kind", ["rnn", "lstm", "gru"])
def test_recurrent_layers(kind):
    module = {"rnn": torch.nn.RNN, "lstm": torch.nn.LSTM, "gru": torch.nn.GRU}[kind](
        3, 4, bidirectional=True).double()
    step = {"rnn": recurrent.rnn_step("tanh"), "lstm": recurrent.lstm_step(),
            "gru": recurrent.gru_step()}[kind]

    def make(net, x):
        parts = []
        for end in ("", "_reverse"):
            w_x, w_h, b_x, b_h = [
                net.parameter(name + end, getattr(module, f"{name}_l0{end}").detach().numpy())
                for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]
            apart = slice(8, 12) if kind == "gru" else None
            bias = recurrent.joined(net, "bias_ih" + end, b_x, b_h, apart)
            cell = recurrent.Cell(w_x, w_h, bias, b_h if kind == "gru" else None)
            parts.append(recurrent.unrolled(net, x, cell, step, backwards=bool(end))[0])
        return recurrent.stacked(parts, 1)

    graph = agree(make, lambda x: module(x)[0], (5, 3))
    biases = 16 * (kind == "gru") // 2 + {"rnn": 8, "lstm": 32, "gru": 24}[kind]
    assert graph.n_params == sum(p.numel() for n, p in module.named_parameters()
                                 if "weight" in n) + biases


@pytest.mark.parametrize("causal", [False, True])
def test_attention(causal):
    mask = np.triu(np.full((3, 3), -np.inf), 1) if causal else None

    def make(net, x):
        q, k, v = x.ids
        return att.attention(net, Neurons(q), Neurons(k), Neurons(v), scale=0.5, mask=mask)

    graph = agree(make, lambda x: F.scaled_dot_product_attention(
        x[0], x[1], x[2], is_causal=causal), (3, 2, 3, 4))
    assert graph.n_neurons < (240 if causal else 400)
    with pytest.raises(ValueError, match="without keys"):
        att.attention(TensorNet(), Neurons(np.zeros((2, 2), np.int32)), *[
            Neurons(np.zeros((2, 2), np.int32))] * 2, scale=1.0, mask=np.full((2, 2), -np.inf))


def test_what_no_output_sees_is_left_out_and_outputs_come_once():
    net = TensorNet()
    x = net.input("x", (2,))
    ew.unary(net, x, "exp")
    y = ew.unary(net, x, "tanh")
    again = Neurons(np.concatenate([y.ids, y.ids, x.ids, [ZERO]]))
    graph, *_ = net.graph([("y", again)])
    assert graph.n_neurons == 2 + 2 + 4 + 1
    np.testing.assert_allclose(order(graph).run([0.5, 1], dtype="f64"),
                               [*np.tanh([0.5, 1])] * 2 + [0.5, 1, 0])


def test_sums_that_few_read_are_taken_in_by_their_readers():
    def make(net, x):
        now = x
        for _ in range(3):
            now = ew.binary(net, "add", now, ew.unary(net, norms.layer_norm(
                net, now, 1, None, None, 1e-5), "tanh"))
        return now

    def theirs(x):
        for _ in range(3):
            x = x + torch.tanh(F.layer_norm(x, (4,), eps=1e-5))
        return x

    graph = agree(make, theirs, (2, 4))
    # Each of 3 norms has 2 means, 2 roots, 8 differences and 8 results; of 3 sums of 8 each, that
    # of the first norm alone is no neuron: the second one's reads it.
    assert graph.n_neurons == 8 + 3 * (2 + 2 + 8 + 8) + 2 * 8
    assert (graph.aggregations == 2).sum() == 4  # one norm's means are sums of shares

    def twice(net, x):
        return ew.binary(net, "add", ew.binary(net, "add", x, ew.unary(net, x, "exp")), x)

    assert agree(twice, lambda x: x + x.exp() + x, (3,)).n_neurons == 3 + 3 * 3

    def shown(net, x):
        made = ew.binary(net, "add", x, ew.unary(net, x, "exp"))
        return Neurons(np.concatenate([made.ids, ew.unary(net, made, "tanh").ids]))

    assert agree(shown, lambda x: torch.cat([x + x.exp(), (x + x.exp()).tanh()]),
                 (3,)).n_neurons == 3 + 3 * 3


def test_quotients_that_sums_alone_read_are_pairs():
    def heads(net, x):
        q, k, v = (Neurons(part) for part in x.ids)
        made = att.attention(net, q, k, v, scale=0.5)
        w, _ = drawn(net, "w", 3, 2)
        b, _ = drawn(net, "b", 3)
        return con.linear(net, made, w, b)

    net = TensorNet()
    _, w = drawn(net, "w", 3, 2)
    _, b = drawn(net, "b", 3)
    graph = agree(heads, lambda x: F.linear(F.scaled_dot_product_attention(
        x[0], x[1], x[2], scale=0.5), w, b), (3, 4, 2))
    # Scores, exponentials; largest, totals; sums of values; the map.
    assert graph.n_neurons == 24 + 2 * 16 + 2 * 4 + 4 * 2 + 4 * 3

    def both(net, x):
        made = ew.softmax(net, x)
        return Neurons(np.concatenate([con.linear(net, made, Weights(np.ones((1, 4)))).ids,
                                       ew.reduce(net, made, [0], "max", True).ids]))

    assert agree(both, lambda x: torch.stack([x.softmax(-1).sum(), x.softmax(-1).amax()]),
                 (4,)).n_neurons == 4 + 1 + 4 + 1 + 4 + 1 + 1
