"""The C header of an engine: what an image needs, its check, its evaluation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from ncc.images.check import NUMBER, REASONS
from ncc.images.image import ALIGN, AT, VERSION
from ncc.images.kinds import Kinds
from ncc.ir.ssa import Module
from ncc.machine.header import (
    ABI_VERSION,
    about_calls,
    about_numerics,
    aligned,
    block,
    comment,
    macro,
    prototype,
    string,
)
from ncc.machine.targets import Target

# What the functions of one image call: those of many, by the names that the object has.
OF_MANY = {"forward": "forward_nets", "forward_batch": "forward_batch_nets"}


def of_many(module: Module) -> Module:
    """The functions of an engine that C programs call, each under its name in the object."""
    return module.with_(funcs=tuple([replace(f, name=OF_MANY[f.name]) for f in module.funcs
                                     if f.name in OF_MANY]))


def header(kinds: Kinds, module: Module, target: Target, lanes: int,
           stacks: Mapping[str, int] | None) -> str:
    """The text of the header. `module` is what the object was made of, `lanes` are those of its
    batch function, `stacks` the bytes of stack of each function, by symbol, where that is known."""
    name, dtype = module.name, module.dtype
    real, m = "float" if dtype == "f32" else "double", macro(name)
    soft = dtype in target.soft
    reasons = [f"#define {f'{m}_REFUSED_{r.name}':<{len(m) + 20}} {NUMBER[r.name]:>2}"
               f"  /* {r.phrase} */" for r in REASONS]
    parts = [block(_about(kinds, module, real, target, soft)), f"#ifndef {m}_NCC_H",
             f"#define {m}_NCC_H", "", "#include <stddef.h>", "#include <stdint.h>", "",
             *_numbers(m, kinds, target, dtype, lanes, stacks), "",
             *aligned(m, "..."), "", *aligned(f"{m}_IMAGE", "...")[1:], "",
             f"/* What {name}_engine_check answers; 0 is a good image. */", *reasons, "",
             "#ifdef __cplusplus", 'extern "C" {', "#endif", "",
             _CHECK.format(name=name, m=m, align=ALIGN), _accessors(name, m, real)]
    for of_one, of_many_ in OF_MANY.items():
        func = module.func(of_many_)
        about = list(_DOCS[of_one])
        if stacks:
            about.append(f"It takes {stacks[f'{name}_{of_many_}']} bytes of stack"
                         + (", and what the runtime takes." if soft else "."))
        parts += [block([line.format(name=name, m=m, real=real) for line in about]),
                  prototype(func, name, real), ""]
    parts += [_WRAPPERS.format(name=name, m=m, real=real), "#ifdef __cplusplus", "}", "#endif", "",
              f"#endif /* {m}_NCC_H */", ""]
    return "\n".join(parts)


def _about(kinds: Kinds, module: Module, real: str, target: Target, soft: bool) -> list[str]:
    return [
        f"{module.name}: an engine, which evaluates images of nets, compiled by ncc.",
        "",
        f"For {comment(target.name)} ({comment(target.triple)}).",
        about_numerics(module, real),
        "",
        "An image is one block of bytes without pointers; `ncc build NET --emit image` writes it.",
        "This engine evaluates those that are made for these kinds of rows (an aggregation, and an",
        "activation as an expression in x):",
        "",
        *[f"    {comment(line)}" for line in str(kinds).splitlines()],
        "",
        "The functions write to nothing but those of their arguments that are not const, keep no",
        "state and allocate nothing: many threads may run them at once, each with its own `work`.",
        "What `work` holds between calls does not matter. No array may overlap another.",
        *about_calls(module, real, target.triple, soft),
    ]


def _numbers(m: str, kinds: Kinds, target: Target, dtype: str, lanes: int,
             stacks: Mapping[str, int] | None) -> list[str]:
    numbers: dict[str, tuple[object, str]] = {
        "ALIGN": (target.align(dtype), "bytes: `work` begins at a multiple"),
        "IMAGE_ALIGN": (ALIGN, "bytes: an image begins at a multiple"),
        "IMAGE_VERSION": (VERSION, "of the images' format"),
        "KINDS": (len(kinds.kinds), "of rows"),
        "KINDS_DIGEST": (f"UINT32_C(0x{kinds.digest:08x})", "which every image of theirs has"),
        "LANES": (lanes, "samples that the batch function computes at once"),
        **({"STACK_BYTES": (max(stacks.values()), "of stack that a function takes at most")}
           if stacks else {}),
        "ABI_VERSION": (ABI_VERSION, ""),
        "TARGET": (string(target.name), ""),
    }
    width = max(map(len, numbers)) + len(m) + 1
    return [f"#define {f'{m}_{title}':<{width}} {value}" + (f"  /* {note} */" if note else "")
            for title, (value, note) in numbers.items()]


_CHECK = """\
/*
 * Whether the functions below may be called with an image of which `bytes` bytes are in memory: 0,
 * or one of the reasons above. To be asked once of an image, as long as nobody writes to it. Every
 * count and index of it is compared; beyond its bytes nothing is read, whatever they are.
 */
int {name}_engine_check(const void *image, size_t bytes);
"""
_DOCS = {
    "forward": (
        "What {name}_forward calls, for images side by side: y[nets][outputs] of one x[inputs].",
        "nets[0] is how many there are, nets[1] their inputs, nets[2] their outputs, and behind",
        "them where each begins, in words of 4 bytes from `image`; `reals` is the same address.",
        "`work` is as large as the largest of them wants it."),
    "forward_batch": (
        "Likewise: y[nets][n][outputs] of n samples x[n][inputs].",),
}
_WRAPPERS = """\
/* y[outputs] of one sample x[inputs], which may have any alignment. */
static inline void {name}_forward(const void *image, const {real} *x, {real} *y, void *work)
{{
    const uint32_t nets[4] = {{1, {name}_inputs(image), {name}_outputs(image), 0}};
    {name}_forward_nets(nets, (const uint32_t *)image, (const {real} *)image, x, y, work);
}}

/* y[n][outputs] of n samples x[n][inputs], row-major. Each row of y has the bits that the function
 * of one sample gives. */
static inline void {name}_forward_batch(const void *image, size_t n, const {real} *x,
                                 {real} *y, void *work)
{{
    const uint32_t nets[4] = {{1, {name}_inputs(image), {name}_outputs(image), 0}};
    {name}_forward_batch_nets(n, nets, (const uint32_t *)image, (const {real} *)image, x, y, work);
}}
"""


def _accessors(name: str, m: str, real: str) -> str:
    """Inline functions that say what an image needs."""
    made = [f"""\
/* A word of an image, little-endian on every machine. */
static inline uint32_t {name}_image_word(const void *image, size_t word)
{{
    const unsigned char *p = (const unsigned char *)image + 4 * word;
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}}
"""]
    for title, word, about in (("inputs", "inputs", f"{real}s of a sample x"),
                               ("outputs", "outputs", f"{real}s of a result y"),
                               ("rows", "rows", "neurons that are computed"),
                               ("edges", "edges", "edges")):
        made.append(f"""\
/* {about} */
static inline uint32_t {name}_{title}(const void *image)
{{
    return {name}_image_word(image, {AT[word]});
}}
""")
    for title, factor, about in (("", "", "forward"),
                                 ("batch_", f"{m}_LANES * ", "forward_batch, whatever n is")):
        made.append(f"""\
/* bytes of `work` for {name}_{about} */
static inline size_t {name}_{title}work_bytes(const void *image)
{{
    return ((size_t){name}_inputs(image) + {name}_rows(image)) * {factor}sizeof({real});
}}
""")
    return "\n".join(made)
