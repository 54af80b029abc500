"""Some numbers of a matrix product at once, as LLVM instructions: they share what is loaded, and no sum.

Each number is the same sum, term by term and lane by lane, in whatever tile it stands. What is multiplied are float32s,
or words (uint32) of two bfloat16s each, whose products are added in float32; sums over words are sums over pairs.
"""

# ruff: noqa: ARG001  # numba tells an instruction the types of all its arguments

from collections.abc import Callable
from typing import Any

import numba
from llvmlite import ir

from featcache.heads.training.kernels.intrinsics import CGUTILS, element_pointer, instruction
from featcache.heads.training.kernels.vectors import (
    LANES,
    MANY_REGISTERS,
    Matrix,
    add_lanes,
    branches,
    collect_sums,
    lane_numbers,
    load_vector,
    multiply_add,
    prefetch_line,
    splat,
    store_vector,
    zeroed_sums,
    zeros,
)

COMPILED_WITH = {"intrinsics": "d6c859f190f8d6f4", "vectors": "7decce2ac2323aaa"}  # see `softmax`
ROW_TILE, COLUMN_TILE = (8 if MANY_REGISTERS else 4), 3  # of logits that are summed at once
GRADIENT_TILE = 12 if LANES == 16 else 6  # columns
LINE = 16  # float32s, or words, of a cache line
PANEL = max(LINE, 2 * LANES)  # of a gradient's row, summed at once


@instruction
def logit_tile(
    context: Any, count: Any, w: Any, j: Any, x: Any, r: Any, low: Any, high: Any, alpha: Any, z: Any
) -> Any:
    """Set z[j : j + count, r : r + ROW_TILE] to alpha times the sums over k from low to high; low > 0: add them.

    LANES sums of every LANES-th term, which are then added by halves; count is at most COLUMN_TILE.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        count, _, j, _, r, low, high, alpha, _ = arguments
        w, x, z = (Matrix(context, builder, signature.args[i], arguments[i]) for i in (1, 3, 8))
        is_first = builder.icmp_signed("==", low, ir.Constant(low.type, 0))
        steps = builder.sdiv(builder.sub(high, low), ir.Constant(low.type, LANES))
        rows = [x.pointer(r, low, below=a) for a in range(ROW_TILE)]
        for columns in branches(builder, count, COLUMN_TILE):
            weights = [w.pointer(j, low, below=b) for b in range(columns)]
            sums = zeroed_sums(builder, columns * ROW_TILE)
            with CGUTILS.for_range(builder, steps) as loop:
                k = builder.mul(loop.index, ir.Constant(loop.index.type, LANES))
                of_w = [load_vector(builder, builder.gep(weight, [k])) for weight in weights]
                for a, row in enumerate(rows):
                    of_x = load_vector(builder, builder.gep(row, [k]))
                    for b, weight in enumerate(of_w):
                        total = sums[b * ROW_TILE + a]
                        builder.store(multiply_add(builder, weight, of_x, builder.load(total)), total)
            added = add_lanes(builder, [builder.load(total) for total in sums])
            for b in range(columns):
                target = z.pointer(j, r, below=b)
                before = builder.select(is_first, zeros(ROW_TILE), load_vector(builder, target, ROW_TILE))
                part = collect_sums(builder, added, range(b * ROW_TILE, (b + 1) * ROW_TILE))
                part = builder.fmul(part, splat(builder, alpha, ROW_TILE))
                store_vector(builder, builder.fadd(before, part), target)
        return context.get_dummy_value()

    size = numba.intp
    return numba.void(size, w, size, x, size, size, size, numba.float32, z), generate


def _gradient_tile(vectors: int) -> Callable[..., None]:
    """Return an instruction for tiles of so many vectors of a gradient's row."""

    @instruction
    def gradient_tile(
        context: Any, count: Any, g: Any, j: Any, x: Any, k: Any, low: Any, high: Any, next_row: Any, next_k: Any,
        alpha: Any, d: Any,
    ) -> Any:  # fmt: skip
        """Set d[j : j + count, k : …] to alpha times the sums over rows low to high in turn; low > 0: add them.

        On the way it asks for as many rows from x[next_row, next_k] on; count is at most GRADIENT_TILE.
        """

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            count, _, j, _, k, low, high, next_row, next_k, alpha, _ = arguments
            g, x, d = (Matrix(context, builder, signature.args[i], arguments[i]) for i in (1, 3, 10))
            is_first = builder.icmp_signed("==", low, ir.Constant(low.type, 0))
            here, ahead, stride = x.pointer(low, k), x.pointer(next_row, next_k), x.stride(low, k)
            for columns in branches(builder, count, GRADIENT_TILE):
                slopes = [g.pointer(j, low, below=b) for b in range(columns)]
                sums = zeroed_sums(builder, columns * vectors)
                with CGUTILS.for_range(builder, builder.sub(high, low)) as loop:
                    row = builder.mul(loop.index, stride)
                    for line in range(0, vectors * LANES, LINE):
                        prefetch_line(builder, builder.gep(ahead, [builder.add(row, ir.Constant(row.type, line))]))
                    places = [builder.add(row, ir.Constant(row.type, v * LANES)) for v in range(vectors)]
                    of_x = [load_vector(builder, builder.gep(here, [place])) for place in places]
                    for b, slope in enumerate(slopes):
                        of_g = splat(builder, builder.load(builder.gep(slope, [loop.index])))
                        for total, term in zip(sums[b * vectors : (b + 1) * vectors], of_x, strict=True):
                            builder.store(multiply_add(builder, of_g, term, builder.load(total)), total)
                for number, total in enumerate(sums):
                    target = d.pointer(j, k, below=number // vectors, right=number % vectors * LANES)
                    before = builder.select(is_first, zeros(), load_vector(builder, target))
                    part = builder.fmul(builder.load(total), splat(builder, alpha))
                    store_vector(builder, builder.fadd(before, part), target)
            return context.get_dummy_value()

        size = numba.intp
        return numba.void(size, g, size, x, size, size, size, size, size, numba.float32, d), generate

    return gradient_tile


panel_tile, line_tile = _gradient_tile(PANEL // LANES), _gradient_tile(LINE // LANES)


@instruction
def sum_of_squares(context: Any, d: Any, j: Any, k: Any) -> Any:
    """Return the sum of the squares of a line of row j of d, from k on, in float64, by halves."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        line = load_vector(builder, element_pointer(context, builder, signature.args[0], *arguments), LINE)
        wide = builder.fpext(line, ir.VectorType(ir.DoubleType(), LINE))
        part, lanes = builder.fmul(wide, wide), LINE
        while lanes > 1:
            lanes //= 2
            low, high = (
                builder.shuffle_vector(part, part, lane_numbers(range(start, start + lanes))) for start in (0, lanes)
            )
            part = builder.fadd(low, high)
        return builder.extract_element(part, ir.Constant(ir.IntType(32), 0))

    return numba.float64(d, numba.intp, numba.intp), generate
