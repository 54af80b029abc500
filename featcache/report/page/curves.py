"""The heads of the run that made a head: their settings, and their learning curves."""

import contextlib
import re
from collections.abc import Iterator, Mapping, Sequence

from featcache.errors import CacheError
from featcache.heads import HeadConfig
from featcache.heads.saved import describe_model, read_history
from featcache.report.page.charts import Curve
from featcache.report.page.head_on_rows import HeadOnRows


def configs_of_run(head_on_split: HeadOnRows) -> dict[str, HeadConfig]:
    """Return the settings of the heads of the run; those that are gone or damaged are left out.

    Args:
        head_on_split: one of them, on a split.
    """
    configs = {}
    for name in head_on_split.choice.run.heads:
        with contextlib.suppress(CacheError):
            layer = describe_model(head_on_split.head.folder.parent / name).layer
            if layer is not None:  # another classifier's run has no head of fit-head among its models
                configs[name] = layer.config
    return configs


def curves_of_run(head_on_split: HeadOnRows, configs: Mapping[str, HeadConfig]) -> Iterator[Curve]:
    """Yield the history of every head of the run, named by what tells it from the others.

    Args:
        head_on_split: one of them, on a split.
        configs: the settings of each, by its name.
    """
    head, heads = head_on_split.head, head_on_split.choice.run.heads
    rates = {name: f"lr {config.lr:g}" for name, config in configs.items()}
    labels = rates if len(set(rates.values())) == len(heads) else _differing_parts(heads)
    for name in heads:
        try:
            columns = read_history(head.folder.parent / name)
        except CacheError:  # missing or damaged, or of another kind of model: the page does without its curve
            continue
        if columns["epoch"]:
            epochs = tuple(int(epoch) for epoch in columns["epoch"])
            yield Curve(labels[name], name == head.name, epochs, columns)


def _differing_parts(heads: Sequence[str]) -> dict[str, str]:
    """Return, by a head's name, the settings in it that not every name has; the whole of a name that has no other."""
    parts = {name: re.split(r"-(?=[a-z])", name.rpartition("-")[0] or name) for name in heads}
    shared = set.intersection(*map(set, parts.values()))
    return {name: "-".join(part for part in own if part not in shared) or "-".join(own) for name, own in parts.items()}
