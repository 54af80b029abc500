"""What compiled loops need that Python has no words for: single instructions and barriers.

numba keeps what it compiled beside a function's file, or in the user's cache, and makes it anew when that file changes.
It does not look at other files: a module that calls compiled functions of this one names its version, and so changes
with it (`COMPILED_WITH`; a test sees to that).
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
from numba.extending import intrinsic

Longs = npt.NDArray[np.int64]
F = TypeVar("F", bound=Callable[..., object])

CGUTILS: Any = cgutils
SPINS_BEFORE_YIELD = 2**14  # some 30 us
SECONDS_OF_LOADING = 2.0  # what is on disk takes 0.5 of a core; compiling some ten

f32 = np.float32
ONE = f32(1)
MIN_EXPONENT = f32(-126)  # 2^-126 is the smallest float32 that has all its digits
ROUNDING = f32(1.5 * 2**23)  # x + ROUNDING has the nearest whole number to x in its last bits, for |x| < 2^22

# 2^f = 1 + f q(f) for |f| <= 1/2, q of degree 5 through the Chebyshev nodes: wrong by 1e-8 of it at most.
_NODES = np.cos((np.arange(6) + 0.5) * np.pi / 6) / 2
_Q = np.polynomial.Polynomial.fit(_NODES, (2**_NODES - 1) / _NODES, 5).convert().coef
Q0, Q1, Q2, Q3, Q4, Q5 = (f32(q) for q in _Q)


def compiled(function: F) -> F:
    """Return the function compiled by numba, without Python's lock: at its first call, and from disk ever after.

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


def precompile(
    function: Callable[..., object], *arguments: object, when_slow: Callable[[], None] = lambda: None
) -> None:
    """Compile a function by calling it with arguments that leave it nothing to do, before anybody waits for it.

    By a thread of its own, which a Ctrl-C leaves to itself: where one comes into LLVM's midst, llvmlite drops it, and
    then misses what was compiled.

    Args:
        function: What `compiled` returned.
        *arguments: Of the types that it will be called with; their values make it return at once.
        when_slow: Called where it takes longer than loading from disk does.

    Raises:
        BaseException: what the call raised.
    """
    errors: list[BaseException] = []

    def compile_here() -> None:
        try:
            _call_until_compiled(function, arguments)
        except BaseException as error:  # the caller's to raise
            errors.append(error)

    thread = threading.Thread(target=compile_here, name="numba", daemon=True)
    thread.start()
    thread.join(SECONDS_OF_LOADING)
    if thread.is_alive():
        when_slow()
        thread.join()
    if errors:
        raise errors[0]


def _call_until_compiled(function: Callable[..., object], arguments: Sequence[object]) -> None:
    """Call a function until what it needs is compiled; what cannot be kept (a full disk) serves this process.

    It is in place when numba raises, or what it calls is: once for each function.
    """
    for _ in range(100):
        try:
            function(*arguments)
        except OSError as error:
            last_error = error
        else:
            return
    raise last_error


def instruction(generator: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function for compiled loops, given as LLVM instructions; `context` is numba's, and no argument."""
    return cast(Callable[..., Any], intrinsic(generator))


def element_pointer(context: Any, builder: Any, array_type: Any, array: Any, *indices: Any) -> Any:
    """Return the pointer to an array's element."""
    return CGUTILS.get_item_pointer(
        context, builder, array_type, context.make_array(array_type)(context, builder, array), list(indices)
    )


@instruction
def power_of_two(context: Any, shifted: Any) -> Any:
    """Return 2^n of the float32 ROUNDING + n, n a whole number above -127: its last bits, moved to the exponent."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        bits = ir.IntType(32)
        n = builder.bitcast(arguments[0], bits)
        return builder.bitcast(builder.shl(builder.add(n, bits(127)), bits(23)), ir.FloatType())

    return numba.float32(numba.float32), generate


def _has_fma() -> bool:
    """Return whether this processor multiplies and adds in one instruction; every 64-bit ARM does."""
    return platform.machine() in ("arm64", "aarch64") or bool(get_host_cpu_features().get("fma", False))


HAS_FMA = _has_fma()


@instruction
def fma(context: Any, a: Any, b: Any, c: Any) -> Any:
    """Return a * b + c of float32s, rounded once; twice on a processor that has no instruction for it."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        a, b, c = arguments
        return builder.fma(a, b, c) if HAS_FMA else builder.fadd(builder.fmul(a, b), c)

    return numba.float32(numba.float32, numba.float32, numba.float32), generate


@instruction
def prefetch(context: Any, x: Any, row: Any, column: Any) -> Any:
    """Ask for the cache line of x[row, column], and go on."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        line = element_pointer(context, builder, signature.args[0], *arguments)
        word = ir.IntType(32)
        signature_of_prefetch = ir.FunctionType(ir.VoidType(), [line.type, word, word, word])
        function = CGUTILS.get_or_insert_function(builder.module, signature_of_prefetch, "llvm.prefetch.p0")
        builder.call(function, [line, word(0), word(3), word(1)])  # to read, into the nearest cache, data
        return context.get_dummy_value()

    return numba.void(x, numba.intp, numba.intp), generate


@instruction
def load_acquire(context: Any, counts: Any, member: Any) -> Any:
    """Return counts[member, 0] as it is now; whatever was written before it was is seen from here on."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        zero = context.get_constant(numba.intp, 0)
        return builder.load_atomic(element_pointer(context, builder, signature.args[0], *arguments, zero), "acquire", 8)

    return numba.int64(counts, numba.intp), generate


@instruction
def store_release(context: Any, counts: Any, member: Any, count: Any) -> Any:
    """Set counts[member, 0] = count, after everything that was written before."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        zero = context.get_constant(numba.intp, 0)
        pointer = element_pointer(context, builder, signature.args[0], *arguments[:2], zero)
        builder.store_atomic(arguments[2], pointer, "release", 8)
        return context.get_dummy_value()

    return numba.void(counts, numba.intp, numba.int64), generate


@instruction
def yield_core(context: Any) -> Any:
    """Let another thread have this core."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        if hasattr(os, "sched_yield"):
            function = ir.FunctionType(ir.IntType(32), [])
            builder.call(CGUTILS.get_or_insert_function(builder.module, function, "sched_yield"), [])
        return context.get_dummy_value()

    return numba.void(), generate


@compiled
def wait_until(counts: Longs, member: int, count: int, spins: int) -> bool:
    """Return whether counts[member, 0] came to `count` within so many looks."""
    for _ in range(spins):  # noqa: SIM110
        if load_acquire(counts, member) >= count:
            return True
    return False


@compiled
def signal(counts: Longs, member: int, count: int) -> None:
    """Let whoever looks see that counts[member, 0] is `count`, and all that was done before."""
    store_release(counts, member, count)


@compiled
def barrier(counts: Longs, member: int, count: int) -> None:
    """Wait until the count of every member is at least `count`."""
    store_release(counts, member, count)
    for other in range(len(counts)):
        spins = 0
        while load_acquire(counts, other) < count:
            spins += 1
            if spins % SPINS_BEFORE_YIELD == 0:
                yield_core()


def _exp2_of(x: Any) -> Any:
    """Return 2^x for x <= 0, right to 1e-7 of it; 2^-126 for all that is less, nan for nan."""
    x = MIN_EXPONENT if x < MIN_EXPONENT else x
    shifted = x + ROUNDING
    f = x - (shifted - ROUNDING)
    q = fma(f, fma(f, fma(f, fma(f, fma(f, Q5, Q4), Q3), Q2), Q1), Q0)
    return fma(f, q, ONE) * power_of_two(shifted)


exp2 = cast(Callable[[Any], Any], numba.njit(inline="always")(_exp2_of))
