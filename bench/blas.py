"""BLAS's matrix product for compiled loops: what the trainer's own products are held against."""

# ruff: noqa: ARG001  # what numba hands to an instruction is not all used

from typing import Any

import numba
from llvmlite import ir
from numba.extending import get_cython_function_address

from featcache.heads.training.kernels.intrinsics import CGUTILS, element_pointer, instruction

SGEMM: int = get_cython_function_address("scipy.linalg.cython_blas", "sgemm")
NO_TRANSPOSE, TRANSPOSE = ord("N"), ord("T")  # as BLAS takes them


@instruction
def sgemm(
    context: Any, address: Any, op_b: Any, m: Any, n: Any, k: Any, alpha: Any, a: Any, b: Any, beta: Any, c: Any
) -> Any:
    """Set C' = alpha A' op(B') + beta C', for a, b, c row-major arrays of contiguous rows; `cython_blas.sgemm`.

    C is (n, m), A (k, m), and B (n, k) where op_b is NO_TRANSPOSE or (k, n) where it is TRANSPOSE.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        address, op_b, m, n, k, alpha, a, b, beta, c = arguments
        types = signature.args

        def by_reference(value: Any) -> Any:
            return CGUTILS.alloca_once_value(builder, value)

        zero = context.get_constant(numba.intp, 0)
        a, b, c = (
            element_pointer(context, builder, types[i], array, zero, zero) for i, array in ((6, a), (7, b), (9, c))
        )
        word, letter = ir.IntType(32), ir.IntType(8)
        m, n, k = (builder.trunc(size, word) for size in (m, n, k))
        transposed = builder.icmp_signed("==", op_b, context.get_constant(numba.intp, TRANSPOSE))
        ldb = builder.select(transposed, n, k)
        values = [letter(NO_TRANSPOSE), builder.trunc(op_b, letter), m, n, k, alpha, a, m, b, ldb, beta, c, m]
        pointers = [value if isinstance(value.type, ir.PointerType) else by_reference(value) for value in values]
        function = ir.FunctionType(ir.VoidType(), [pointer.type for pointer in pointers])
        builder.call(builder.inttoptr(address, function.as_pointer()), pointers)
        return context.get_dummy_value()

    sizes = (numba.intp,) * 5
    return numba.void(*sizes, numba.float32, a, b, numba.float32, c), generate
