"""What `tiles` is written with: vectors as LLVM has them, and how their lanes are added up."""

import platform
from collections.abc import Iterator, Sequence
from typing import Any

from llvmlite import ir
from llvmlite.binding import get_host_cpu_features

from featcache.heads.training.kernels.intrinsics import CGUTILS, HAS_FMA, element_pointer

COMPILED_WITH = {"intrinsics": "d6c859f190f8d6f4"}  # see `softmax`
FLOAT, WORD = ir.FloatType(), ir.IntType(32)
_FEATURES = get_host_cpu_features()
LANES = 16 if _FEATURES.get("avx512f") else 8 if _FEATURES.get("avx") else 4  # of a vector register
HAS_BFLOAT16 = LANES == 16 and bool(_FEATURES.get("avx512bf16"))  # products of pairs of bfloat16s
MANY_REGISTERS = LANES == 16 or platform.machine() in ("arm64", "aarch64")  # 32 of them, else 16


class Matrix:
    """A two-dimensional array among an instruction's arguments."""

    def __init__(self, context: Any, builder: Any, kind: Any, value: Any) -> None:
        self.context, self.builder, self.kind, self.value = context, builder, kind, value

    def pointer(self, row: Any, column: Any, *, below: int = 0, right: int = 0) -> Any:
        """Return the pointer to [row + below, column + right]."""
        row, column = (
            self.builder.add(index, ir.Constant(index.type, more)) for index, more in ((row, below), (column, right))
        )
        return element_pointer(self.context, self.builder, self.kind, self.value, row, column)

    def stride(self, row: Any, column: Any) -> Any:
        """Return how many elements of four bytes lie from one row to the next."""
        low, high = (self.builder.ptrtoint(self.pointer(row, column, below=below), row.type) for below in (0, 1))
        return self.builder.sdiv(self.builder.sub(high, low), ir.Constant(row.type, 4))


def vector_type(lanes: int = LANES) -> Any:
    """Return the type of a vector of so many float32s."""
    return ir.VectorType(FLOAT, lanes)


def zeros(lanes: int = LANES) -> Any:
    """Return a vector of zeros."""
    return ir.Constant(vector_type(lanes), [0.0] * lanes)


def lane_numbers(lanes: Sequence[int]) -> Any:
    """Return which lanes a shuffle takes."""
    return ir.Constant(ir.VectorType(WORD, len(lanes)), list(lanes))


def splat(builder: Any, value: Any, lanes: int = LANES) -> Any:
    """Return a vector of so many times this number."""
    undefined = ir.Constant(ir.VectorType(value.type, lanes), ir.Undefined)
    first = builder.insert_element(undefined, value, ir.Constant(WORD, 0))
    return builder.shuffle_vector(first, undefined, lane_numbers([0] * lanes))


def load_vector(builder: Any, address: Any, lanes: int = LANES) -> Any:
    """Return the so many float32s, or words, from an address on."""
    return builder.load(builder.bitcast(address, ir.VectorType(address.type.pointee, lanes).as_pointer()), align=4)


def store_vector(builder: Any, value: Any, address: Any) -> None:
    """Write a vector from an address on."""
    builder.store(value, builder.bitcast(address, value.type.as_pointer()), align=4)


def multiply_add(builder: Any, a: Any, b: Any, c: Any) -> Any:
    """Return a b + c of vectors, rounded once; twice on a processor that has no instruction for it.

    Where a and b are words, each a pair of bfloat16s: a[0] b[0] + a[1] b[1] + c, as the processor rounds it.
    """
    if a.type.element == WORD:
        signature, name = ir.FunctionType(c.type, [c.type, a.type, b.type]), "llvm.x86.avx512bf16.dpbf16ps.512"
        return builder.call(CGUTILS.get_or_insert_function(builder.module, signature, name), [c, a, b])
    if not HAS_FMA:
        return builder.fadd(builder.fmul(a, b), c)
    signature, name = ir.FunctionType(a.type, [a.type] * 3), f"llvm.fma.v{a.type.count}f32"
    return builder.call(CGUTILS.get_or_insert_function(builder.module, signature, name), [a, b, c])


def zeroed_sums(builder: Any, count: int) -> list[Any]:
    """Return where so many vectors are added up, at zero: LLVM keeps them in registers."""
    sums = [CGUTILS.alloca_once(builder, vector_type()) for _ in range(count)]
    for total in sums:
        builder.store(zeros(), total)
    return sums


def add_lanes(builder: Any, sums: Sequence[Any]) -> list[tuple[Any, list[int]]]:
    """Return the sum of each vector's lanes: vectors, and which sum each lane of them has.

    By halves: lane l and l + LANES / 2, then these, and so on. Two vectors share each addition, which changes no sum.
    """
    vectors, size = [(total, [number]) for number, total in enumerate(sums)], LANES
    while size > 1:
        chunk, half, paired = max(4, size), size // 2, []  # shuffles within four lanes cost least
        for (left, of_left), (right, of_right) in zip(vectors[::2], [*vectors[1::2], vectors[-1]], strict=False):
            lanes, owners = [], []
            for start in range(0, LANES, chunk):
                for source, of_source in ((0, of_left), (LANES, of_right)):
                    groups = range(start, start + chunk, size)
                    lanes += [source + group + lane for group in groups for lane in range(half)]
                    owners += [of_source[group // size] for group in groups]
            low, high = (
                builder.shuffle_vector(left, right, lane_numbers([lane + offset for lane in lanes]))
                for offset in (0, half)
            )
            paired.append((builder.fadd(low, high), owners))
        vectors, size = paired, half
    return vectors


def collect_sums(builder: Any, added: Sequence[tuple[Any, list[int]]], numbers: Sequence[int]) -> Any:
    """Return a vector of these sums, out of what `add_lanes` returns."""
    count, collected = len(numbers), ir.Constant(vector_type(len(numbers)), ir.Undefined)
    for part, owners in added:
        lanes = [owners.index(number) if number in owners else None for number in numbers]
        if any(lane is not None for lane in lanes):
            chosen = builder.shuffle_vector(part, part, lane_numbers([lane or 0 for lane in lanes]))
            kept = [number if lane is None else count + number for number, lane in enumerate(lanes)]
            collected = builder.shuffle_vector(collected, chosen, lane_numbers(kept))
    return collected


def branches(builder: Any, count: Any, most: int) -> Iterator[int]:
    """Yield 1, 2, … most, each within a branch that is taken where count is that number."""
    for number in range(1, most + 1):
        with builder.if_then(builder.icmp_signed("==", count, ir.Constant(count.type, number))):
            yield number


def prefetch_line(builder: Any, address: Any) -> None:
    """Ask for an address's cache line, and go on."""
    signature = ir.FunctionType(ir.VoidType(), [address.type, WORD, WORD, WORD])
    function = CGUTILS.get_or_insert_function(builder.module, signature, "llvm.prefetch.p0")
    builder.call(function, [address, WORD(0), WORD(3), WORD(1)])  # to read, into the nearest cache, data
