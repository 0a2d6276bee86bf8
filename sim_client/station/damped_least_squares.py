"""Damped least squares for a handful of joints, in plain numbers.

For six equations numpy spends most of its time on everything but the arithmetic: written out, the
same takes a fifth of it, and an arm asks for it fifty times a simulated second.
"""

from __future__ import annotations

from collections.abc import Sequence

Column = tuple[float, float, float, float, float, float]


def damped_least_squares(
    columns: Sequence[Column], move: Sequence[float], secondary: Sequence[float], damping: float
) -> list[float]:
    """x + J' (J J' + damping I)^-1 (move - J x), where x is `secondary`: one number a joint.

    columns: of the Jacobian J, one a joint. What `move` (6,) leaves free follows `secondary`.
    """
    # The upper triangle of J J' and the right-hand side.
    g00 = g11 = g22 = g33 = g44 = g55 = damping
    g01 = g02 = g03 = g04 = g05 = g12 = g13 = g14 = g15 = 0.0
    g23 = g24 = g25 = g34 = g35 = g45 = 0.0
    r0, r1, r2, r3, r4, r5 = move
    for (a, b, c, d, e, f), x in zip(columns, secondary, strict=True):
        g00 += a * a
        g01 += a * b
        g02 += a * c
        g03 += a * d
        g04 += a * e
        g05 += a * f
        g11 += b * b
        g12 += b * c
        g13 += b * d
        g14 += b * e
        g15 += b * f
        g22 += c * c
        g23 += c * d
        g24 += c * e
        g25 += c * f
        g33 += d * d
        g34 += d * e
        g35 += d * f
        g44 += e * e
        g45 += e * f
        g55 += f * f
        r0 -= a * x
        r1 -= b * x
        r2 -= c * x
        r3 -= d * x
        r4 -= e * x
        r5 -= f * x

    # Gaussian elimination; positive definite, so that no pivot is small.
    h1, h2, h3, h4, h5 = g01 / g00, g02 / g00, g03 / g00, g04 / g00, g05 / g00
    g11, g12, g13, g14, g15 = (
        g11 - h1 * g01,
        g12 - h1 * g02,
        g13 - h1 * g03,
        g14 - h1 * g04,
        g15 - h1 * g05,
    )
    g22, g23, g24, g25 = g22 - h2 * g02, g23 - h2 * g03, g24 - h2 * g04, g25 - h2 * g05
    g33, g34, g35 = g33 - h3 * g03, g34 - h3 * g04, g35 - h3 * g05
    g44, g45, g55 = g44 - h4 * g04, g45 - h4 * g05, g55 - h5 * g05
    r1, r2, r3, r4, r5 = r1 - h1 * r0, r2 - h2 * r0, r3 - h3 * r0, r4 - h4 * r0, r5 - h5 * r0

    h2, h3, h4, h5 = g12 / g11, g13 / g11, g14 / g11, g15 / g11
    g22, g23, g24, g25 = g22 - h2 * g12, g23 - h2 * g13, g24 - h2 * g14, g25 - h2 * g15
    g33, g34, g35 = g33 - h3 * g13, g34 - h3 * g14, g35 - h3 * g15
    g44, g45, g55 = g44 - h4 * g14, g45 - h4 * g15, g55 - h5 * g15
    r2, r3, r4, r5 = r2 - h2 * r1, r3 - h3 * r1, r4 - h4 * r1, r5 - h5 * r1

    h3, h4, h5 = g23 / g22, g24 / g22, g25 / g22
    g33, g34, g35 = g33 - h3 * g23, g34 - h3 * g24, g35 - h3 * g25
    g44, g45, g55 = g44 - h4 * g24, g45 - h4 * g25, g55 - h5 * g25
    r3, r4, r5 = r3 - h3 * r2, r4 - h4 * r2, r5 - h5 * r2

    h4, h5 = g34 / g33, g35 / g33
    g44, g45, g55 = g44 - h4 * g34, g45 - h4 * g35, g55 - h5 * g35
    r4, r5 = r4 - h4 * r3, r5 - h5 * r3

    h5 = g45 / g44
    y5 = (r5 - h5 * r4) / (g55 - h5 * g45)
    y4 = (r4 - g45 * y5) / g44
    y3 = (r3 - g34 * y4 - g35 * y5) / g33
    y2 = (r2 - g23 * y3 - g24 * y4 - g25 * y5) / g22
    y1 = (r1 - g12 * y2 - g13 * y3 - g14 * y4 - g15 * y5) / g11
    y0 = (r0 - g01 * y1 - g02 * y2 - g03 * y3 - g04 * y4 - g05 * y5) / g00
    return [
        x + a * y0 + b * y1 + c * y2 + d * y3 + e * y4 + f * y5
        for (a, b, c, d, e, f), x in zip(columns, secondary, strict=True)
    ]
