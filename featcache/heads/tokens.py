"""How many tokens an embedding consists of, for heads over them."""

import re

from featcache.errors import CacheError, UsageError
from featcache.recipe import ATTENTION, HeadSection, is_own_head
from featcache.store import FeatureStore


def count_tokens(section: HeadSection, store: FeatureStore) -> HeadSection:
    """Return the head section with the tokens of a store's embeddings in it; that of a head without tokens as it is.

    A head of one's own has the tokens of a grid, and of any other layer those that were stated; else rows are vectors.

    Args:
        section: of any head.
        store: that the head is trained on.

    Raises:
        CacheError: its layer has no tokens.
        UsageError: their number is not known, or does not divide an embedding; or several stores side by side.
    """
    if is_own_head(section.head):
        grid = re.fullmatch(r"grid(\d+)", store.trunk.spec.layer) if len(store.parts) == 1 else None
        return section.model_copy(update={"tokens": section.tokens or (int(grid[1]) ** 2 if grid else 0)})
    if section.head != ATTENTION:
        return section
    if len(store.parts) > 1:
        raise UsageError(
            f"--head attention chooses among the tokens of one layer, and these features are of {len(store.parts)}: "
            f"name one with --layer in place of --features"
        )
    layer, width = store.trunk.spec.layer, store.dim or 0
    if not layer.startswith(("grid", "tokens", "name:")):
        raise CacheError(
            f"store {store.name}: it holds layer {layer}, one vector an image, and --head attention chooses among "
            f"tokens: extract a layer such as grid4 (`featcache extract … --layer grid4`), and name it with --layer"
        )
    grid = re.fullmatch(r"grid(\d+)", layer)
    tokens = section.tokens or (int(grid[1]) ** 2 if grid else 0)
    if not tokens:
        raise UsageError(
            f"layer {layer} does not say how many tokens its {width:,} numbers are: --tokens N does (a ViT of "
            f"patches of 16 pixels has 196 at 224 pixels)"
        )
    if width % tokens:
        raise UsageError(f"--tokens {tokens}: {tokens:,} tokens do not divide the {width:,} numbers of layer {layer}")
    return section.model_copy(update={"tokens": tokens})
