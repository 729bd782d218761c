"""What the comments of a C header say of each function."""

from __future__ import annotations

from ncc.ir.ssa import Func, layout


def work_size(func: Func) -> int:
    """Elements of `work`: of every lane at once, where each sample has its own."""
    return layout(func)[1]


def _doc_pack(m: str, real: str, func: Func) -> list[str]:
    return [
        f"Write params[{m}_PARAMS], in canonical order, to packed[{m}_PACKED], the order that the",
        f"compiled code wants. `packed` is the caller's, aligned to {m}_ALIGN. To be called again",
        "whenever the parameters change.",
    ]


def _doc_reset(m: str, real: str, func: Func) -> list[str]:
    return [f"Make state[{m}_STATES] what it is before the first sample of a stream: all 0."]


def _doc_forward(m: str, real: str, func: Func) -> list[str]:
    lines = [f"y[{m}_OUTPUTS] of one sample x[{m}_INPUTS], which may have any alignment."]
    if _stateful(func):
        lines += [f"state[{m}_STATES] has the values of the last call, and then those of this one."]
    return lines + _doc_memory(m, "WORK_BYTES", func)


def _doc_steps(m: str, real: str, func: Func) -> list[str]:
    lines = [f"n steps of one stream, one after another: y[n][{m}_OUTPUTS] of x[n][{m}_INPUTS],",
             f"and state[{m}_STATES] as n calls of the function of one sample leave it."]
    return lines + _doc_memory(m, "WORK_BYTES", func)


def _stateful(func: Func) -> bool:
    return any(b.name == "state" for b in func.buffers)


def _doc_batch(m: str, real: str, func: Func) -> list[str]:
    lines = [f"y[n][{m}_OUTPUTS] of n samples x[n][{m}_INPUTS], row-major, of any alignment. Each",
             "row of y has the bits that the function of one sample gives."]
    if _stateful(func):
        lines += [f"The samples are of n streams, with state[n][{m}_STATES], row-major: a step of",
                  "each."]
    return lines + _doc_memory(m, "BATCH_WORK_BYTES", func)


def _doc_memory(m: str, work: str, func: Func) -> list[str]:
    lines = []
    if any(b.name == "packed" and b.kind == "in" for b in func.buffers):
        lines += [f"packed[{m}_PACKED] is what the pack function wrote, aligned to {m}_ALIGN."]
    if work_size(func):
        return [*lines, f"`work` is {m}_{work} bytes of the caller's, aligned to {m}_ALIGN."]
    return [*lines, "`work` is not used and may be NULL."]


def _doc_each(m: str, real: str, func: Func) -> list[str]:
    lines = [f"y[n][{m}_OUTPUTS] of n samples x[n][{m}_INPUTS], each with canonical parameters of",
             f"its own, params[n][{m}_PARAMS]: row-major, of any alignment. Each row of y has the",
             "bits that the function of one sample gives with those parameters."]
    if _stateful(func):
        lines += [f"The samples are of n streams, with state[n][{m}_STATES], row-major."]
    if func.name == "each_backward":
        lines = ["The gradients of sum(y[k] * dy[k]) for each k, where y is as of `each`:",
                 f"dx[n][{m}_INPUTS], dparams[n][{m}_PARAMS], overwritten; either may be NULL."]
    return lines + _doc_memory(m, f"{func.name.upper()}_WORK_BYTES", func)


def _doc_backward(m: str, real: str, func: Func) -> list[str]:
    rows = f"n][{m}_" if func.counted else f"{m}_"
    many = "of n samples" if func.counted else "of one sample"
    lines = [
        f"The gradients of sum(y * dy) {many}: dx[{rows}INPUTS] is overwritten,",
        f"dparams[{m}_PARAMS], in canonical order, is added to"
        + (" (the sum over the samples)." if func.counted else "."),
        f"Either may be NULL. x[{rows}INPUTS] and dy[{rows}OUTPUTS] are as in forward.",
    ]
    return lines + _doc_memory(m, f"{func.name.upper()}_WORK_BYTES", func)


def _doc_step(m: str, real: str, func: Func) -> list[str]:
    rows = f"n][{m}_" if func.counted else f"{m}_"
    many = "n samples" if func.counted else "one sample"
    lines = [
        f"One step of training on {many}: x[{rows}INPUTS], target[{rows}TARGETS],",
        f"params[{m}_PARAMS] and packed[{m}_PACKED], which the pack function made of them, are",
        f"updated with learning rate lr. state[{m}_STATE] is the caller's, all 0 before the first",
        "step; state[0] is then the mean loss of this step, as it was before the update."
        + (" With" if func.counted else ""),
        *(["n 0 the loss is 0, and the optimizer takes its step all the same."]
          if func.counted else []),
    ]
    word = func.name.replace("_step", "").upper()
    return lines + [f"`work` is {m}_{word}_WORK_BYTES bytes of the caller's, aligned to "
                    f"{m}_ALIGN."]


def _doc_jacobian(m: str, real: str, func: Func) -> list[str]:
    rows = f"n][{m}_" if func.counted else f"{m}_"
    many = "of n samples" if func.counted else "of one sample"
    lines = [f"The Jacobian {many}, x[{rows}INPUTS], row-major, of any alignment:",
             f"jac[{rows}OUTPUTS][{m}_INPUTS] has the derivative of each output by each input."]
    return lines + _doc_memory(m, f"{func.name.upper()}_WORK_BYTES", func)


DOCS = {"pack": _doc_pack, "reset": _doc_reset, "forward": _doc_forward,
        "forward_batch": _doc_batch, "steps": _doc_steps,
        "each": _doc_each, "each_backward": _doc_each,
        "backward": _doc_backward, "backward_batch": _doc_backward,
        "train_step": _doc_step, "train_step_batch": _doc_step,
        "jacobian": _doc_jacobian, "jacobian_batch": _doc_jacobian}
