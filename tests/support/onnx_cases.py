"""ONNX's own node cases, each passed, refused or wrong: `python tests/support/onnx_cases.py`
prints a table by operator.

A case is one node (or the function that it is made of), inputs and outputs. Reals are inputs of the
net; integers and booleans are what a model would have as constants. Where a net wants weights
that are constant, all reals but the first input are, too.
"""

from __future__ import annotations

import sys
import warnings
from collections import Counter, defaultdict
from importlib import import_module
from typing import Any, NamedTuple

import numpy as np

import ncc


class Result(NamedTuple):
    """How a case ended: "passed", "refused" (with code and reason) or "wrong" (with what is)."""

    name: str
    kind: str
    how: str
    code: str = ""
    reason: str = ""
    reals: bool = False  # whether inputs and outputs are reals alone


def cases(*operators: str) -> list[Any]:
    """The cases of modules of the installed package (`conv`, `lstm`), or all."""
    import onnx.backend.test.case.node as node
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if not operators:
            return list(node.collect_testcases(None))
        for name in operators:  # which leaves its cases in the package
            import_module(f"{node.__name__}.{name}")
        return list(node._NodeTestCases)


def run(case: Any) -> Result:
    """One case, all of its data."""
    model = case.model
    kind = model.graph.node[0].op_type if len(model.graph.node) == 1 else case.name[5:].split(
        "_expanded")[0]
    values = [*model.graph.input, *model.graph.output]
    reals = all(held.type.WhichOneof("value") == "tensor_type"
                and held.type.tensor_type.elem_type in (1, 10, 11, 16) for held in values)
    result = None
    for constants in (False, True):
        result = _run(case, kind, reals, constants)
        if result.how != "refused" or result.code != "E813" or "depend" not in result.reason:
            break
    assert result is not None
    return result


def _run(case: Any, kind: str, reals: bool, constants: bool) -> Result:
    import onnx
    worst = 0.0
    for inputs, outputs in case.data_sets or []:
        model = onnx.ModelProto()
        model.CopyFrom(case.model)
        x = []
        for place, (held, value) in enumerate(zip(case.model.graph.input, inputs, strict=False)):
            if isinstance(value, onnx.TensorProto):
                value = onnx.numpy_helper.to_array(value)
            if not isinstance(value, np.ndarray | np.generic):
                continue
            value = np.asarray(value)
            real = value.dtype.kind == "f" or value.dtype.name == "bfloat16"
            if real and not (constants and place):
                x.append(value.astype(np.float64).ravel())
            elif held.type.WhichOneof("value") == "tensor_type":
                model.graph.initializer.append(onnx.numpy_helper.from_array(value, held.name))
        try:
            net = ncc.from_onnx(model, batch_dim="none")
        except ncc.NccError as error:
            return Result(case.name, kind, "refused", error.code, error.message, reals)
        given = np.concatenate(x) if x else np.zeros(0)
        outputs = [onnx.numpy_helper.to_array(one) if isinstance(one, onnx.TensorProto) else one
                   for one in outputs]
        with np.errstate(all="ignore"):
            y = net.graph.run(given[None], dtype="f64")[0]
        wanted = np.concatenate([np.asarray(one).astype(np.float64).ravel() for one in outputs])
        if y.shape != wanted.shape:
            return Result(case.name, kind, "wrong", "", f"{y.shape} for {wanted.shape}", reals)
        narrow = any(str(np.asarray(one).dtype) in ("float16", "bfloat16") for one in outputs)
        bound = 1e-2 if narrow else max(case.rtol, 1e-4)
        with np.errstate(invalid="ignore"):
            apart = np.abs(y - wanted)
        apart[(y == wanted) | (np.isnan(y) & np.isnan(wanted))] = 0
        scale = np.abs(wanted[np.isfinite(wanted)]).max(initial=1e-6)
        worst = float(np.nan_to_num(apart, nan=np.inf).max(initial=0.0)) / scale
        if worst > bound:
            return Result(case.name, kind, "wrong", "", f"{worst:.2g} of the largest", reals)
    return Result(case.name, kind, "passed", "with constants" if constants else "",
                  f"{worst:.1g}", reals)


def main() -> int:
    """The table; 1 where a case is wrong."""
    found = []
    for case in cases():
        try:
            found.append(run(case))
        except Exception as error:
            found.append(Result(case.name, "", "wrong", "", repr(error)))
    by_kind: dict[str, Counter[str]] = defaultdict(Counter)
    why: dict[str, Counter[str]] = defaultdict(Counter)
    for result in found:
        by_kind[result.kind][result.how] += 1
        if result.how == "refused":
            why[result.kind][result.code] += 1
    print(f"{'operator':<36}{'passed':>8}{'refused':>8}{'wrong':>8}  codes")
    for kind in sorted(by_kind):
        counts = by_kind[kind]
        codes = ", ".join(f"{code} {n}" for code, n in sorted(why[kind].items()))
        print(f"{kind:<36}{counts['passed']:>8}{counts['refused']:>8}{counts['wrong']:>8}  {codes}")
    total = Counter(result.how for result in found)
    reals = Counter(result.how for result in found if result.reals)
    print(f"{len(found)} cases: {dict(total)}; with reals alone {sum(reals.values())}: "
          f"{dict(reals)}")
    for result in found:
        if result.how == "wrong" or "-v" in sys.argv:
            print(result.how, result.name, result.code, result.reason)
    return 1 if total["wrong"] else 0


if __name__ == "__main__":
    raise SystemExit(main())
