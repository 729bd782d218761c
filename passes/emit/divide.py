"""A division of floats that rounds as IEEE 754 says, in integers of 32 bits.

avr-libc's (2.0, and what Arduino ships) rounds some quotients that are subnormal down, which it
should round up. The method is the long division of school: 24 bits of the quotient, one more that
says which half the rest is in, and whether anything is left.
"""

from __future__ import annotations

# The exponent and the mantissa of a positive number, that of a subnormal one moved up to bit 23.
_PARTS = """\
  %{v}e = lshr i32 %{v}, 23
  %{v}m = and i32 %{v}, 8388607
  %{v}sub = icmp eq i32 %{v}e, 0
  %{v}top = or i32 %{v}m, 8388608
  %{v}m0 = select i1 %{v}sub, i32 %{v}m, i32 %{v}top
  %{v}e0 = select i1 %{v}sub, i32 1, i32 %{v}e
  br label %norm{v}
norm{v}:
  %m{v} = phi i32 [ %{v}m0, %{before} ], [ %m{v}2, %up{v} ]
  %e{v} = phi i32 [ %{v}e0, %{before} ], [ %e{v}2, %up{v} ]
  %{v}ok = icmp ugt i32 %m{v}, 8388607
  br i1 %{v}ok, label %done{v}, label %up{v}
up{v}:
  %m{v}2 = shl i32 %m{v}, 1
  %e{v}2 = sub i32 %e{v}, 1
  br label %norm{v}
done{v}:
"""
# Of positive numbers' bits first: what a NaN, an infinity or a zero makes; then the parts of both
# (the label `doney` ends them); 25 steps of a division; a quotient too
# small for a normal number moved down, what falls off kept as `left`; and rounded to even.
_TEXT = """\
define internal float @{name}.divide(float %a, float %b) {attributes} {{
entry:
  %p = bitcast float %a to i32
  %q = bitcast float %b to i32
  %pq = xor i32 %p, %q
  %sign = and i32 %pq, -2147483648
  %x = and i32 %p, 2147483647
  %y = and i32 %q, 2147483647
  %xnan = icmp ugt i32 %x, 2139095040
  %ynan = icmp ugt i32 %y, 2139095040
  %anynan = or i1 %xnan, %ynan
  br i1 %anynan, label %nan, label %numbers
numbers:
  %same = icmp eq i32 %x, %y
  %xzero = icmp eq i32 %x, 0
  %yzero = icmp eq i32 %y, 0
  %xinf = icmp eq i32 %x, 2139095040
  %yinf = icmp eq i32 %y, 2139095040
  %edge = or i1 %xzero, %xinf
  %both = and i1 %same, %edge
  br i1 %both, label %nan, label %some
some:
  %none = or i1 %xzero, %yinf
  br i1 %none, label %signed, label %more
more:
  %over = or i1 %yzero, %xinf
  br i1 %over, label %infinite, label %finite
finite:
{x}{y}  %e0 = sub i32 %ex, %ey
  %less = icmp ult i32 %mx, %my
  %twice = shl i32 %mx, 1
  %r0 = select i1 %less, i32 %twice, i32 %mx
  %bias = select i1 %less, i32 126, i32 127
  %e = add i32 %e0, %bias
  br label %step
step:
  %r = phi i32 [ %r0, %doney ], [ %rnext, %next ]
  %z = phi i32 [ 0, %doney ], [ %znext, %next ]
  %k = phi i8 [ 25, %doney ], [ %knext, %next ]
  %z2 = shl i32 %z, 1
  %fits = icmp uge i32 %r, %my
  br i1 %fits, label %take, label %next
take:
  %rless = sub i32 %r, %my
  %zone = or i32 %z2, 1
  br label %next
next:
  %rleft = phi i32 [ %rless, %take ], [ %r, %step ]
  %znext = phi i32 [ %zone, %take ], [ %z2, %step ]
  %rnext = shl i32 %rleft, 1
  %knext = sub i8 %k, 1
  %last = icmp eq i8 %knext, 0
  br i1 %last, label %quotient, label %step
quotient:
  %some_left = icmp ne i32 %rleft, 0
  %left0 = zext i1 %some_left to i32
  %small = icmp slt i32 %e, 1
  br i1 %small, label %low, label %round
low:
  %ee = phi i32 [ %e, %quotient ], [ %eup, %low ]
  %zz = phi i32 [ %znext, %quotient ], [ %zdown, %low ]
  %ll = phi i32 [ %left0, %quotient ], [ %lmore, %low ]
  %off = and i32 %zz, 1
  %lmore = or i32 %ll, %off
  %zdown = lshr i32 %zz, 1
  %eup = add i32 %ee, 1
  %high = icmp sgt i32 %eup, 0
  %gone = icmp eq i32 %zdown, 0
  %enough = or i1 %high, %gone
  br i1 %enough, label %round, label %low
round:
  %ef = phi i32 [ %e, %quotient ], [ 0, %low ]
  %zf = phi i32 [ %znext, %quotient ], [ %zdown, %low ]
  %lf = phi i32 [ %left0, %quotient ], [ %lmore, %low ]
  %toobig = icmp sgt i32 %ef, 254
  br i1 %toobig, label %infinite, label %pack
pack:
  %m = lshr i32 %zf, 1
  %half = and i32 %zf, 1
  %odd = and i32 %m, 1
  %up = or i32 %odd, %lf
  %carry = and i32 %up, %half
  %rounded = add i32 %m, %carry
  %normal = icmp sgt i32 %ef, 0
  %below = sub i32 %ef, 1
  %field = select i1 %normal, i32 %below, i32 0
  %exponent = shl i32 %field, 23
  %bits = add i32 %rounded, %exponent
  br label %signed
infinite:
  br label %signed
signed:
  %value = phi i32 [ 0, %some ], [ 2139095040, %infinite ], [ %bits, %pack ]
  %whole = or i32 %value, %sign
  br label %end
nan:
  br label %end
end:
  %out = phi i32 [ %whole, %signed ], [ 2143289344, %nan ]
  %result = bitcast i32 %out to float
  ret float %result
}}
"""


def division(name: str) -> str:
    """The function `@name.divide` of two floats, as LLVM text."""
    attributes = f'#1 section ".text.{name}.divide"'
    return _TEXT.format(name=name, attributes=attributes,
                        x=_PARTS.format(v="x", before="finite"),
                        y=_PARTS.format(v="y", before="donex"))
