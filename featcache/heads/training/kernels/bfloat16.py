"""The operands of a step's products as pairs of bfloat16s, two to a word, for processors that multiply such pairs.

A bfloat16 is a float32 of which 8 of 24 digits are left. A product of two of them is exact in float32, so that what is
rounded are the operands alone: X when it is gathered, W when it is updated, G when the softmax has made it
(docs/decisions/151-products-in-bf16.md). A pair is what stands side by side in a product's sum: two numbers of a row of
W and of X for the logits, two rows of G' and of X for the gradient. So a batch is kept twice.

Rounding is to the nearest, of two to the even one; what is below 2^-126 becomes 0.
"""

# ruff: noqa: ARG001  # numba tells an instruction the types of all its arguments

from typing import Any, NamedTuple

import numba
import numpy as np
import numpy.typing as npt
from llvmlite import ir

from featcache.heads.training.kernels.intrinsics import CGUTILS, compiled, instruction
from featcache.heads.training.kernels.tiles import LINE
from featcache.heads.training.kernels.vectors import WORD, Matrix, load_vector, store_vector

Floats = npt.NDArray[np.float32]
Words = npt.NDArray[np.uint32]

COMPILED_WITH = {  # see `softmax`
    "intrinsics": "d6c859f190f8d6f4",
    "tiles": "76f143566f54c0ab",
    "vectors": "7decce2ac2323aaa",
}


class BfloatPairs(NamedTuple):
    """What a step multiplies, as words of two bfloat16s; the first of a pair is the lower half."""

    w: Words  # (columns, words of a row) of W; a row is filled up with zeros to a multiple of LINE
    rows: Words  # (rows, words of a row) of X
    row_pairs: Words  # (rows / 2, width) of X': word [i, k] is X[2 i, k] and X[2 i + 1, k]
    gradient: Words  # (columns, rows / 2) of G


def _rounded(builder: Any, numbers: Any) -> Any:
    """Return a line of float32s as bfloat16s, (LINE,) of 16 bits."""
    signature = ir.FunctionType(ir.VectorType(ir.IntType(16), LINE), [numbers.type])
    name = "llvm.x86.avx512bf16.cvtneps2bf16.512"
    return builder.call(CGUTILS.get_or_insert_function(builder.module, signature, name), [numbers])


def _as_words(builder: Any, bfloats: Any) -> Any:
    """Return a line of bfloat16s, each with its neighbour in a word."""
    return builder.bitcast(bfloats, ir.VectorType(WORD, LINE // 2))


@instruction
def _round_line(context: Any, x: Any, i: Any, k: Any, words: Any) -> Any:
    """Set words[i, k / 2 : …] to the line of row i of x that begins at k."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        _, i, k, _ = arguments
        x, words = (Matrix(context, builder, signature.args[at], arguments[at]) for at in (0, 3))
        line = _rounded(builder, load_vector(builder, x.pointer(i, k), LINE))
        store_vector(builder, _as_words(builder, line), words.pointer(i, builder.sdiv(k, ir.Constant(k.type, 2))))
        return context.get_dummy_value()

    return numba.void(x, numba.intp, numba.intp, words), generate


@instruction
def _round_lines(context: Any, x: Any, i: Any, k: Any, r: Any, rows: Any, row_pairs: Any) -> Any:
    """Round the lines of rows i and i + 1 of x that begin at k, as rows r and r + 1 of a batch; r is even."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        _, i, k, r, _, _ = arguments
        x, rows, row_pairs = (Matrix(context, builder, signature.args[at], arguments[at]) for at in (0, 4, 5))
        two = ir.Constant(k.type, 2)
        lines = [_rounded(builder, load_vector(builder, x.pointer(i, k, below=below), LINE)) for below in (0, 1)]
        for below, line in enumerate(lines):
            store_vector(builder, _as_words(builder, line), rows.pointer(r, builder.sdiv(k, two), below=below))
        words = ir.VectorType(WORD, LINE)
        low, high = (builder.zext(line, words) for line in lines)
        pairs = builder.or_(low, builder.shl(high, ir.Constant(words, [16] * LINE)))
        store_vector(builder, pairs, row_pairs.pointer(builder.sdiv(r, two), k))
        return context.get_dummy_value()

    size = numba.intp
    return numba.void(x, size, size, size, rows, row_pairs), generate


@compiled
def round_batch(x: Floats, count: int, dim: int, first: int, rows: Words, row_pairs: Words) -> None:
    """Round the first so many rows of x as rows first, first + 1, … of a batch; a last one without a pair gets zeros.

    Args:
        x: (at least count rows, one more where that is odd; width), a column of ones at dim.
        count: how many rows.
        dim: the width of an embedding.
        first: an even number.
        rows: `BfloatPairs.rows`.
        row_pairs: `BfloatPairs.row_pairs`.
    """
    if count % 2:
        for k in range(dim):
            x[count, k] = 0
    for i in range(0, count, 2):
        for k in range(0, x.shape[1], LINE):
            _round_lines(x, i, k, first + i, rows, row_pairs)


@compiled
def round_gradient(z: Floats, first: int, last: int, gradient: Words) -> None:
    """Round columns first to last of z as pairs; a last one without a pair gets zero.

    Args:
        z: (columns, rows), the rows a multiple of LINE.
        first: a multiple of LINE.
        last: the column after the last.
        gradient: `BfloatPairs.gradient`.
    """
    for j in range(len(z)):
        if last % 2:
            z[j, last] = 0
        for r in range(first, last, LINE):
            _round_line(z, j, r, gradient)


@compiled
def round_weights(w: Floats, low: int, high: int, words: Words) -> None:
    """Round weights low to high of each row; both are multiples of LINE, w (columns, width), words `BfloatPairs.w`."""
    for j in range(len(w)):
        for k in range(low, high, LINE):
            _round_line(w, j, k, words)
