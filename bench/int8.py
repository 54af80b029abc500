"""python bench/int8.py

A minute on two cores; what it printed stands in docs/benchmarks.md, and what follows from it in docs/decisions/133.

What 8-bit whole numbers would gain over bfloat16 on a CPU: a block of ViT-B/16 on eight images, one thread, seeded
random weights; per-channel scales of the weights, one fixed scale for every input, which is the cheapest kind there
is. The products are oneDNN's, with bias and gelu in their pass, in both; the product before an 8-bit one writes 8 bits
where nothing lies between. Attention, normalisations and sums stay in bfloat16, as every 8-bit ViT has them.
"""

import argparse
import time
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from machine import Result, document, table
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 (as everybody calls it)

from featcache.machine import keep_large_blocks
from featcache.trunks.vit_blocks import Block, Linear, Mlp, Norm

IMAGES, TOKENS, WIDTH, HEADS = 8, 197, 768, 12
SCALE, ZERO = 4 / 127, 128  # of every input: noise of a deviation of 1 lies within 4


class Product:
    """A linear layer whose weights and inputs have 8 bits."""

    def __init__(self, layer: Linear) -> None:
        weight = layer.weight.float()
        self.scales = weight.abs().amax(dim=1) / 127
        rounded = (weight / self.scales[:, None]).round().to(torch.int8)
        self.packed = torch.ops.onednn.qlinear_prepack(rounded, [IMAGES * TOKENS, weight.shape[1]])
        self.zeros = torch.zeros(len(weight), dtype=torch.int64)
        assert layer.bias is not None
        self.bias = layer.bias.float()

    def __call__(self, x: Tensor, *out: Any) -> Tensor:
        """8-bit inputs -> bfloat16; with (scale, zero, type, activation, its kind) whatever these say."""
        how = out or (1.0, 0, torch.bfloat16, "none", "")
        scale, zero, kind, activation, algorithm = how
        weights = (self.packed, self.scales, self.zeros, self.bias)
        product: Tensor = torch.ops.onednn.qlinear_pointwise(
            x, SCALE, ZERO, *weights, scale, zero, kind, activation, [], algorithm
        )
        return product


def quantize(x: Tensor) -> Tensor:
    """Return the inputs of a product in 8 bits."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch will remove it; nothing else of torch is as fast
        return torch.quantize_per_tensor(x.float(), SCALE, ZERO, torch.quint8).int_repr()


def make_block() -> Block:
    """Return a block of ViT-B/16 in bfloat16."""
    torch.manual_seed(0)

    def linear(outputs: int, inputs: int) -> Linear:
        return Linear((torch.randn(outputs, inputs) * 0.02).bfloat16(), (torch.randn(outputs) * 0.1).bfloat16())

    def norm() -> Norm:
        return Norm(torch.ones(WIDTH).bfloat16(), torch.zeros(WIDTH).bfloat16())

    mlp = Mlp(linear(4 * WIDTH, WIDTH), linear(WIDTH, 4 * WIDTH))
    return Block(norm(), linear(3 * WIDTH, WIDTH), linear(WIDTH, WIDTH), norm(), mlp, HEADS)


def in_8_bits(block: Block) -> Callable[[Tensor], Tensor]:
    """Return the forward of a block with its four products in 8 bits."""
    qkv, out, up, down = map(Product, (block.qkv, block.out, block.mlp.up, block.mlp.down))
    to_8_bits = (SCALE, ZERO, torch.uint8, "gelu", "none")

    def run(z: Tensor) -> Tensor:
        by_head = qkv(quantize(block.norm_1(z))).view(IMAGES, TOKENS, 3, HEADS, -1).permute(2, 0, 3, 1, 4)
        query, key, value = by_head
        mixed = F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)
        z = z + out(quantize(mixed))
        return z + down(up(quantize(block.norm_2(z)), *to_8_bits))

    return run


def measure(runs: int) -> tuple[list[Result], dict[str, float]]:
    """Return milliseconds of processor time of the block, of its products alone, and their ratios."""
    keep_large_blocks()
    torch.set_num_threads(1)
    block, z = make_block(), torch.randn(IMAGES, TOKENS, WIDTH).bfloat16()
    pairs = ((block.qkv, z), (block.out, z), (block.mlp.up, z), (block.mlp.down, z.repeat(1, 1, 4)))
    small = [(Product(layer), quantize(x)) for layer, x in pairs]
    tasks: dict[str, Callable[[], object]] = {
        "products, bfloat16": lambda: [layer(x) for layer, x in pairs],
        "products, 8 bits": lambda: [product(x) for product, x in small],
        "block, bfloat16": lambda: block(z),
        "block, 8 bits": partial(in_8_bits(block), z),
    }
    taken: dict[str, list[float]] = {name: [] for name in tasks}
    with torch.inference_mode():
        for _ in range(runs):
            for name, task in tasks.items():
                began = time.thread_time()
                task()
                taken[name].append(1000 * (time.thread_time() - began))
    results = [Result.of(name, "ms", values) for name, values in taken.items()]
    seconds = {result.name: result.median for result in results}
    return results, {
        f"{part}_bfloat16_vs_8_bits": seconds[f"{part}, bfloat16"] / seconds[f"{part}, 8 bits"]
        for part in ("products", "block")
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="what 8 bits would gain", allow_abbrev=False)
    parser.add_argument("--runs", type=int, default=31)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    results, ratios = measure(options.runs)
    print(document(results, ratios) if options.json else table(results, ratios))


if __name__ == "__main__":
    main()
