"""The pieces of text that `to_c` makes its file of."""

from __future__ import annotations

# {0} {1} {2} the operands, each one token or in brackets; {f} the suffix of the functions of
# float, {s} of its literals; {w} the word type, {top} its highest bit; {p} the prefix of helpers.
EXPRESSIONS = {
    "add": "{0} + {1}",
    "sub": "{0} - {1}",
    "mul": "{0} * {1}",
    "div": "{0} / {1}",
    "fma": "fma{f}({0}, {1}, {2})",
    "neg": "-{0}",
    "abs": "{p}_from_bits({p}_to_bits({0}) & ~{top})",
    "sqrt": "sqrt{f}({0})",
    "max": "{1} > {0} ? {1} : {0}",
    "min": "{1} < {0} ? {1} : {0}",
    "lt": "{0} < {1}",
    "gt": "{0} > {1}",
    "le": "{0} <= {1}",
    "ge": "{0} >= {1}",
    "eq": "{0} == {1}",
    "une": "{0} != {1}",
    "select": "{0} ? {1} : {2}",
    "mask": "{0}",
    "any": "(size_t)({0})",
    "real": "({real}){0}",
    "bits": "{p}_to_bits({0})",
    "unbits": "{p}_from_bits({0})",
    "wadd": "{0} + {1}",
    "wsub": "{0} - {1}",
    "wmul": "{0} * {1}",
    "wand": "{0} & {1}",
    "wor": "{0} | {1}",
    "wxor": "{0} ^ {1}",
    "wshl": "{0} << {1}",
    "wshr": "{0} >> {1}",
    "wsar": "{p}_shift_arithmetic({0}, {1})",
    "weq": "{0} == {1}",
    # Signed, without the casts that C leaves to the implementation: both moved by half the range.
    "wlt": "({0} ^ {top}) < ({1} ^ {top})",
    "iadd": "{0} + {1}",
    "imul": "{0} * {1}",
    "imin": "{0} < {1} ? {0} : {1}",
    "idiv": "{0} / {1}",
}

HELPERS = {
    # A union may be read by another member than was written: C99 TC3, 6.5.2.3, footnote 82.
    "to_bits": """\
static inline {w} {p}_to_bits({real} value)
{{
    union {{ {real} value; {w} bits; }} both;
    both.value = value;
    return both.bits;
}}
""",
    "from_bits": """\
static inline {real} {p}_from_bits({w} bits)
{{
    union {{ {real} value; {w} bits; }} both;
    both.bits = bits;
    return both.value;
}}
""",
    # What C leaves to the implementation for a negative value: copies of the sign come in.
    "shift_arithmetic": """\
static inline {w} {p}_shift_arithmetic({w} word, {w} by)
{{
    return word & {top} ? ~(~word >> by) : word >> by;
}}
""",
    # avr-libc's does not round all subnormal quotients as IEEE 754 says: ncc/passes/emit/divide.py.
    "divide": """\
static inline {real} {p}_divide({real} a, {real} b)
{{
#if defined(__AVR__)
    uint32_t x = {p}_to_bits(a), y = {p}_to_bits(b), quotient = 0, left;
    const uint32_t sign = (x ^ y) & UINT32_C(0x80000000), infinity = UINT32_C(0x7f800000);
    int exponent = 126, k;
    x &= UINT32_C(0x7fffffff);
    y &= UINT32_C(0x7fffffff);
    if (x > infinity || y > infinity || (x == y && (x == 0 || x == infinity)))
        return {p}_from_bits(UINT32_C(0x7fc00000));
    if (x == 0 || y == infinity)
        return {p}_from_bits(sign);
    if (y == 0 || x == infinity)
        return {p}_from_bits(sign | infinity);
    exponent += (int)(x >> 23) - (int)(y >> 23);
    if (x >> 23)
        x = (x & UINT32_C(0x7fffff)) | UINT32_C(0x800000);
    else
        exponent++;
    for (; x < UINT32_C(0x800000); x <<= 1)
        exponent--;
    if (y >> 23)
        y = (y & UINT32_C(0x7fffff)) | UINT32_C(0x800000);
    else
        exponent--;
    for (; y < UINT32_C(0x800000); y <<= 1)
        exponent++;
    if (x < y)
        x <<= 1;
    else
        exponent++;
    for (k = 0; k < 25; k++, x <<= 1) {{
        quotient <<= 1;
        if (x >= y) {{
            x -= y;
            quotient |= 1;
        }}
    }}
    left = x != 0;
    for (; exponent < 1 && quotient; exponent++) {{
        left |= quotient & 1;
        quotient >>= 1;
    }}
    if (exponent > 254)
        return {p}_from_bits(sign | infinity);
    quotient = (quotient >> 1) + (quotient & 1 & (quotient >> 1 | left));
    if (exponent > 1)
        quotient += (uint32_t)(exponent - 1) << 23;
    return {p}_from_bits(sign | quotient);
#else
    return a / b;
#endif
}}
""",
}
# An address space of avr-gcc's, in C: else constants would be copied into memory.
FLASH = """\
#if defined(__FLASH)
#define {p}_FLASH __flash
#else
#define {p}_FLASH
#endif
"""

HEAD = """\
/*
 * C99, and C++17 as well. Gives the results of the ssa module bit for bit where each operation
 * below is rounded by itself; what is seen to break that is an error. Not seen: clang's
 * -ffp-contract=fast and -funsafe-math-optimizations for other machines than x86, and modes of the
 * machine in which subnormal numbers are 0.
 */
"""
# Before the pragmas, which take some of these back, but not what gcc has decided by then.
ERRORS = """\
#if defined(__FAST_MATH__) || defined(_M_FP_FAST)
#error "-ffast-math changes the results of this file"
#endif
#if defined(__FINITE_MATH_ONLY__) && __FINITE_MATH_ONLY__ > 0
#error "-ffinite-math-only changes the results of this file"
#endif
#if defined(__ASSOCIATIVE_MATH__)
#error "-fassociative-math (-funsafe-math-optimizations) changes the results of this file"
#endif
#if defined(__RECIPROCAL_MATH__)
#error "-freciprocal-math (-funsafe-math-optimizations) changes the results of this file"
#endif
#if defined(__NO_SIGNED_ZEROS__)
#error "-fno-signed-zeros (-funsafe-math-optimizations) changes the results of this file"
#endif
"""
# Every compiler's way to round each operation by itself, from here on. gcc knows no FP_CONTRACT
# (and warns of it), and contracts unless it is told not to. clang's -ffp-contract=fast minds
# nothing but strict floating point, which costs it its vectors: so only where there is an FMA to
# make.
PRAGMAS = """\
#if defined(__clang__)
#pragma STDC FP_CONTRACT OFF
#if defined(__x86_64__) || defined(__i386__)
#pragma float_control(precise, on, push)
#if defined(__FMA__)
#pragma STDC FENV_ACCESS ON
#endif
#endif
#elif defined(__GNUC__)
#pragma GCC push_options
#pragma GCC optimize("fp-contract=off", "no-unsafe-math-optimizations")
#elif defined(_MSC_VER)
#pragma float_control(precise, on, push)
#pragma fp_contract(off)
#else
#pragma STDC FP_CONTRACT OFF
#endif
"""
# What FLT_EVAL_METHOD may be: 16 is about _Float16, and float as double does no harm to double.
METHODS = {"f32": (0, 16), "f64": (0, 1, 16)}
METHOD = """\
#if {wrong}
#error "{real} operations are computed in more precision (FLT_EVAL_METHOD): try -msse2 -mfpmath=sse"
#endif
"""
# avr-gcc's double is a float, unless it is told otherwise.
DOUBLES = """\
#if DBL_MANT_DIG != 53
#error "double is no number of 64 bits here: --dtype f32"
#endif
"""
# In an array of no elements, where gcc's -fsingle-precision-constant makes a double a float.
LITERALS = "typedef char {p}_double_literals_are_double[sizeof 1.0 == sizeof(double) ? 1 : -1];\n"
# The end of all that: the rest of the unit is somebody else's.
RESTORE = """\
#if defined(__clang__)
#if defined(__x86_64__) || defined(__i386__)
#if defined(__FMA__)
#pragma STDC FENV_ACCESS OFF
#endif
#pragma float_control(pop)
#endif
#pragma STDC FP_CONTRACT DEFAULT
#elif defined(__GNUC__)
#pragma GCC pop_options
#elif defined(_MSC_VER)
#pragma float_control(pop)
#else
#pragma STDC FP_CONTRACT DEFAULT
#endif
"""
OPEN = """\
#if defined(__cplusplus)
#define {p}_RESTRICT __restrict
extern "C" {{
#else
#define {p}_RESTRICT restrict
#endif
"""
CLOSE = """\
#if defined(__cplusplus)
}}
#endif
#undef {p}_RESTRICT
"""
# The names of the contract; whatever else a buffer is called gets a prefix.
PLAIN = ("x", "packed", "y", "work", "params", "dy", "dx", "dparams", "target", "loss", "state",
         "lr", "scale")
