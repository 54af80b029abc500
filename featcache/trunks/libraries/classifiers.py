"""The classifiers that checkpoints have beside a trunk."""

import re
from collections.abc import Container, Mapping
from typing import Any

CLASSIFIERS = (
    "head", "heads", "head_dist", "fc", "classifier", "last_linear", "_fc", "aux1", "aux2", "AuxLogits", "logits",
    "cls_classifier", "distillation_classifier",
)  # fmt: skip


def classifier_names(document: Any, used: Container[str], beside: tuple[str, ...], depth: int = 0) -> str:
    """Return the names of classifiers' tensors in a checkpoint that a trunk has not, at most two; "" for none."""
    names = []
    for key, value in document.items() if isinstance(document, Mapping) and depth < _DEPTH else ():
        if isinstance(value, Mapping):
            if inner := classifier_names(value, used, beside, depth + 1):
                return inner
            continue
        parts = str(key).split(".")
        is_used = any(".".join(parts[start:]) in used for start in range(len(parts)))
        if hasattr(value, "shape") and _CLASSIFIER_PART.search(str(key)) and parts[0] not in beside and not is_used:
            names.append(str(key))
    return ", ".join(names[:2]) + (", …" if len(names) > 2 else "")


_DEPTH = 5  # keys above the names
_CLASSIFIER_PART = re.compile(rf"(?:^|\.)(?:{'|'.join(CLASSIFIERS)})\.(?:\d+\.|fc\.)?(?:weight|bias)$")
