"""The setting of a recipe that says which features stage two works on."""

from dataclasses import dataclass
from typing import Annotated

from featcache.recipe.settings import Setting


@dataclass(kw_only=True)
class FeatureSettings:
    """Which of the extracted layers stage two works on."""

    features: Annotated[
        str,
        Setting(
            "Which extracted layers stand side by side, as the features that heads learn from: cls+mean, or "
            "resnet34/pooled+vit_b_16/cls, where each part may name its trunk or its store."
        ),
    ] = ""
