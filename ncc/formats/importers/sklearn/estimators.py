"""Fitted estimators of scikit-learn to nets: scalers, layers, and what makes outputs of them.

scikit-learn is not imported: an estimator is known by its class, and read by the attributes that
its fit has left behind. The weights of scalers are constants, those of models parameters.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

import numpy as np

from ncc.formats.importers.foreign import Foreign, Imported, Options, of_module
from ncc.formats.importers.matrices.arrays import too_large
from ncc.formats.importers.sklearn.fitted import Fitted
from ncc.formats.importers.sklearn.layers import Layers
from ncc.formats.importers.sklearn.models import Model, model
from ncc.ir.graph import Ints
from ncc.ir.graph_types import Label

SCALERS: Final = ("StandardScaler", "RobustScaler", "MinMaxScaler", "MaxAbsScaler")
# A feature whose mean is more than so many of its scales has two neurons, x - mean and that over
# the scale: as x*(1/scale) - mean/scale both terms would be so much larger than their sum.
FAR: Final = 16.0


def recognises(value: Any) -> bool:
    return of_module(value, "sklearn") and hasattr(value, "get_params")


def from_object(value: Any, options: Options) -> Imported:
    """The net of a fitted estimator."""
    return built(Foreign(f"<{type(value).__name__}>", ""), value, options)


def built(file: Foreign, estimator: Any, options: Options) -> Imported:
    """The net of a fitted estimator. NccErrors E801 (not fitted), E810 (one that is not known),
    E811, E816, E817, E819."""
    steps = list(Fitted(file, estimator).steps())
    if not steps:
        raise file.fault("E801", "a pipeline without a step")
    for step in steps[:-1]:
        if step.name not in SCALERS:
            raise step.fault("E810", f"{step.name} in front of a model is not read as neurons",
                             help="read are " + ", ".join(SCALERS))
    scalers = [step for step in steps if step.name in SCALERS]
    made = model(steps[-1]) if steps[-1] not in scalers else Model([])
    if options.logits and made.classes is None:
        raise file.fault("E609", f"--logits: {steps[-1].name} is no classifier")
    features = len(made.layers[0].weights) if made.layers else int(
        steps[-1].get("n_features_in_", 0))
    edges = sum(layer.weights.size for layer in made.layers)
    if edges > options.max_edges:
        raise too_large(file, features, edges, options)
    net = Layers(features)
    values, labels = net.inputs, _named(_features(steps[0], features), 0, "x", features)
    for scaler in scalers:
        values = _scaled(net, values, scaler)
    for k, layer in enumerate(made.layers, 1):
        last = layer is made.layers[-1]
        activation = made.activation if last and not options.logits else layer.activation
        values = net.dense(values, layer.weights, layer.biases, activation, options.drop_zeros)
        if not last:
            labels.append(Label(int(values[0]), f"layer{k}", (len(values),)))
    notes = []
    if made.classes is not None and (made.after != "each" or made.activation != "identity"):
        notes.append("the outputs are the scores before softmax or logistic" if options.logits else
                     "the outputs are predict_proba; --logits gives the scores before it")
    outputs = values if options.logits else _outputs(net, values, made.after)
    labels += _classes(made, outputs)
    return Imported(file.name, "", exactness="C", importer="sklearn", notes=tuple(notes),
                    graph=net.graph(outputs, _unique(labels), "f32" if made.single else "f64"))


def _scaled(net: Layers, values: Ints, scaler: Fitted) -> Ints:
    """A neuron a feature, of constants, or two."""
    n = len(values)
    if scaler.name == "MinMaxScaler":
        return net.each(values, scaler.array("scale_", n), scaler.array("min_", n),
                        _clipped(*scaler.get("feature_range"))
                        if scaler.get("clip", False) else "identity")
    if scaler.name == "MaxAbsScaler":
        return net.each(values, 1 / scaler.array("scale_", n), None,
                        _clipped(-1, 1) if scaler.get("clip", False) else "identity")
    standard = scaler.name == "StandardScaler"
    middle, scale = ("mean_", "with_mean") if standard else ("center_", "with_centering"), (
        "with_std" if standard else "with_scaling")
    center = scaler.array(middle[0], n) if scaler.get(middle[1]) else np.zeros(n)
    width = scaler.array("scale_", n) if scaler.get(scale) else np.ones(n)
    far = np.abs(center) > FAR * np.abs(width)
    if far.any():
        return net.each(net.each(values, 1.0, -center), 1 / width)
    return net.each(values, 1 / width, -center / width if scaler.get(middle[1]) else None)


def _clipped(low: float, high: float) -> str:
    return f"min(max(x,{float(low)!r}),{float(high)!r})"


def _outputs(net: Layers, values: Ints, after: str) -> Ints:
    """What `Model.after` makes of the values of the last layer."""
    if after == "pair":
        rest = net.each(values, -1.0, 1.0)
        return np.concatenate([rest, values])
    if after == "softmax":
        top = net.one(values, aggregation="max")
        return _shares(net, net.pairs(values, top, -1.0, "exp"))
    if after == "share":
        # Where all are 0, scikit-learn makes them all 1.
        none = net.one(values, "1-step(x)")
        return _shares(net, net.pairs(values, none, 1.0))
    return values


def _shares(net: Layers, values: Ints) -> Ints:
    """Each over the sum of all."""
    return net.pairs(values, net.one(values, "recip"), 1.0, aggregation="mul")


def _features(first: Fitted, count: int) -> list[str]:
    names = first.get("feature_names_in_")
    return [] if names is None or len(names) != count else [str(name) for name in names]


def _classes(made: Model, outputs: Ints) -> list[Label]:
    """Names of outputs; of one score of two classes that of the second class."""
    classes = [f"class {name}" for name in made.classes or ()]
    if len(outputs) == 1 and len(classes) == 2:
        classes = classes[1:]
    if len(classes) == len(outputs):
        return [Label(int(j), name) for j, name in zip(outputs, classes, strict=True)]
    return [Label(int(outputs[0]), "y", (len(outputs),))]


def _named(names: Sequence[str], first: int, word: str, count: int) -> list[Label]:
    if names:
        return [Label(first + k, name) for k, name in enumerate(names)]
    return [Label(first, word, (count,))] if count else []


def _unique(labels: Iterable[Label]) -> list[Label]:
    """Those with a printable name that no earlier one has."""
    return list({label.name: label for label in reversed(list(labels))
                 if label.name and label.name.isprintable()}.values())[::-1]
