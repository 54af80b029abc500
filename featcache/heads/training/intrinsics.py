"""What the loops of `kernels` are made of that Python has no words for: single instructions, BLAS's product, meetings.

numba keeps what it compiled beside a function's file, or in the user's cache, and makes it anew when that file changes.
It does not look at other files: kernels.py names the version of this one, and so changes with it (a test sees to that).
"""

# ruff: noqa: ARG001  # what numba hands to an instruction is not all used

import os
import platform
import threading
from collections.abc import Callable, Sequence
from typing import Any, TypeVar, cast

import numba
import numpy as np
import numpy.typing as npt
from llvmlite import ir
from llvmlite.binding import get_host_cpu_features
from numba.core import cgutils
from numba.extending import get_cython_function_address, intrinsic

Longs = npt.NDArray[np.int64]
F = TypeVar("F", bound=Callable[..., object])

CGUTILS: Any = cgutils
SGEMM: int = get_cython_function_address("scipy.linalg.cython_blas", "sgemm")
LOOKS = 2**14  # some 30 us

f32 = np.float32
ONE = f32(1)
LEAST_BITS = f32(-126)  # 2^-126 is the smallest float32 that has all its digits
WHOLE = f32(1.5 * 2**23)  # x + WHOLE has the nearest whole number to x in its last bits, for |x| < 2^22

# 2^f = 1 + f q(f) for |f| <= 1/2, q of degree 5 through the Chebyshev nodes: wrong by 1e-8 of it at most.
_NODES = np.cos((np.arange(6) + 0.5) * np.pi / 6) / 2
_Q = np.polynomial.Polynomial.fit(_NODES, (2**_NODES - 1) / _NODES, 5).convert().coef
Q0, Q1, Q2, Q3, Q4, Q5 = (f32(q) for q in _Q)


def compiled(function: F) -> F:
    """The function by numba, without Python's lock: compiled at its first call, and from disk ever after.

    LLVM may not choose how to round: a * b + c is two roundings, and one where `fma` says so. It compiles a function
    once for itself and once more for each that calls it, and takes whichever of these was loaded first. Where it was
    free to fuse ("contract") the two differed in their last bits, and so did the first training after an installation,
    which compiles, from all that load (docs/decisions/079-one-rounding.md).
    """
    options: dict[str, Any] = {"nogil": True, "error_model": "numpy"}
    try:
        return cast(F, numba.njit(cache=True, **options)(function))
    except RuntimeError:  # no folder to keep it in, neither beside this file nor the user's: each process compiles it
        return cast(F, numba.njit(**options)(function))


def ready(function: Callable[..., object], *arguments: object) -> None:
    """Call a compiled function, with nothing to do: what it needs is compiled here, and by nobody who is waited for.

    By a thread of its own, which a Ctrl-C leaves to itself: where one comes into LLVM's midst, llvmlite drops it, and
    then misses what was compiled.
    """
    failed: list[BaseException] = []

    def compiling() -> None:
        try:
            _called(function, arguments)
        except BaseException as error:  # the caller's to raise
            failed.append(error)

    thread = threading.Thread(target=compiling, name="numba", daemon=True)
    thread.start()
    thread.join()
    if failed:
        raise failed[0]


def _called(function: Callable[..., object], arguments: Sequence[object]) -> None:
    """Where what was compiled cannot be kept (a full disk), it serves this process.

    It is in place when numba raises, or what it calls is: once for each function.
    """
    for _ in range(100):
        try:
            function(*arguments)
        except OSError as error:
            failed = error
        else:
            return
    raise failed


def instruction(generator: Callable[..., Any]) -> Callable[..., Any]:
    """A function of compiled loops by what it is in LLVM's language; `context` is numba's, and no argument."""
    return cast(Callable[..., Any], intrinsic(generator))


def _pointer(context: Any, builder: Any, kind: Any, array: Any, *place: Any) -> Any:
    """To an array's element."""
    return CGUTILS.get_item_pointer(
        context, builder, kind, context.make_array(kind)(context, builder, array), list(place)
    )


@instruction
def power(context: Any, shifted: Any) -> Any:
    """2^n, n a whole number above -127, of the float32 WHOLE + n: its last bits, moved to where the exponent is."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        bits = ir.IntType(32)
        n = builder.bitcast(arguments[0], bits)
        return builder.bitcast(builder.shl(builder.add(n, bits(127)), bits(23)), ir.FloatType())

    return numba.float32(numba.float32), generate


def _has_fma() -> bool:
    """Whether this processor multiplies and adds in one instruction; every 64-bit ARM does."""
    return platform.machine() in ("arm64", "aarch64") or bool(get_host_cpu_features().get("fma", False))


FUSED = _has_fma()


@instruction
def fma(context: Any, a: Any, b: Any, c: Any) -> Any:
    """Return a * b + c of float32s, rounded once; twice on a processor that has no instruction for it."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        a, b, c = arguments
        return builder.fma(a, b, c) if FUSED else builder.fadd(builder.fmul(a, b), c)

    return numba.float32(numba.float32, numba.float32, numba.float32), generate


@instruction
def coming(context: Any, x: Any, row: Any, column: Any) -> Any:
    """Ask for the cache line of x[row, column], and go on."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        line = _pointer(context, builder, signature.args[0], *arguments)
        word = ir.IntType(32)
        asked = ir.FunctionType(ir.VoidType(), [line.type, word, word, word])
        prefetch = CGUTILS.get_or_insert_function(builder.module, asked, "llvm.prefetch.p0")
        builder.call(prefetch, [line, word(0), word(3), word(1)])  # to read, into the nearest cache, data
        return context.get_dummy_value()

    return numba.void(x, numba.intp, numba.intp), generate


@instruction
def read(context: Any, counts: Any, which: Any) -> Any:
    """counts[which, 0] as it is now, and after it whatever was written before it was."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        zero = context.get_constant(numba.intp, 0)
        return builder.load_atomic(_pointer(context, builder, signature.args[0], *arguments, zero), "acquire", 8)

    return numba.int64(counts, numba.intp), generate


@instruction
def write(context: Any, counts: Any, which: Any, count: Any) -> Any:
    """counts[which, 0] = count, after everything that was written before."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        zero = context.get_constant(numba.intp, 0)
        where = _pointer(context, builder, signature.args[0], *arguments[:2], zero)
        builder.store_atomic(arguments[2], where, "release", 8)
        return context.get_dummy_value()

    return numba.void(counts, numba.intp, numba.int64), generate


@instruction
def sgemm(
    context: Any, address: Any, of_b: Any, m: Any, n: Any, k: Any, alpha: Any, a: Any, b: Any, beta: Any, c: Any
) -> Any:
    """C' = alpha A' op(B') + beta C', for a, b, c the first elements of row-major arrays; `cython_blas.sgemm`.

    C is (n, m), A (k, m), and B (n, k) for of_b 78 ("N") or (k, n) for 84 ("T"), the rows of each in one piece.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        address, of_b, m, n, k, alpha, a, b, beta, c = arguments
        kinds = signature.args

        def there(value: Any) -> Any:
            return CGUTILS.alloca_once_value(builder, value)

        zero = context.get_constant(numba.intp, 0)
        arrays = [_pointer(context, builder, kinds[i], array, zero, zero) for i, array in ((6, a), (7, b), (9, c))]
        word, letter = ir.IntType(32), ir.IntType(8)
        m, n, k = (builder.trunc(size, word) for size in (m, n, k))
        transposed = builder.icmp_signed("==", of_b, context.get_constant(numba.intp, 84))
        ldb = builder.select(transposed, n, k)
        given = [
            there(letter(78)), there(builder.trunc(of_b, letter)), there(m), there(n), there(k), there(alpha),
            arrays[0], there(m), arrays[1], there(ldb), there(beta), arrays[2], there(m),
        ]  # fmt: skip
        kind = ir.FunctionType(ir.VoidType(), [value.type for value in given])
        builder.call(builder.inttoptr(address, kind.as_pointer()), given)
        return context.get_dummy_value()

    sizes = (numba.intp,) * 5
    return numba.void(*sizes, numba.float32, a, b, numba.float32, c), generate


@instruction
def give_way(context: Any) -> Any:
    """Let another thread have this core."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        if hasattr(os, "sched_yield"):
            kind = ir.FunctionType(ir.IntType(32), [])
            builder.call(CGUTILS.get_or_insert_function(builder.module, kind, "sched_yield"), [])
        return context.get_dummy_value()

    return numba.void(), generate


@compiled
def reached(counts: Longs, which: int, count: int, looks: int) -> bool:
    """Whether counts[which, 0] came to `count` within so many looks."""
    for _ in range(looks):  # noqa: SIM110
        if read(counts, which) >= count:
            return True
    return False


@compiled
def count_to(counts: Longs, which: int, count: int) -> None:
    """Let whoever looks see that counts[which, 0] is `count`, and all that was done before."""
    write(counts, which, count)


@compiled
def meet(counts: Longs, member: int, count: int) -> None:
    """Wait until all have come this far."""
    write(counts, member, count)
    for other in range(len(counts)):
        looks = 0
        while read(counts, other) < count:
            looks += 1
            if looks % LOOKS == 0:
                give_way()


def _exp2_of(x: Any) -> Any:
    """2^x for x <= 0, right to 1e-7 of it; 2^-126 for all that is less, nan for nan."""
    x = LEAST_BITS if x < LEAST_BITS else x
    shifted = x + WHOLE
    f = x - (shifted - WHOLE)
    q = fma(f, fma(f, fma(f, fma(f, fma(f, Q5, Q4), Q3), Q2), Q1), Q0)
    return fma(f, q, ONE) * power(shifted)


exp2 = cast(Callable[[Any], Any], numba.njit(inline="always")(_exp2_of))
