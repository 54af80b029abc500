"""Which views of each image a recipe's [trunk] section asks for."""

from featcache.errors import UsageError
from featcache.media import View, make_views
from featcache.recipe import TrunkSection


def list_views(section: TrunkSection) -> tuple[View | None, ...]:
    """Return None, which is the plain image, and the views that are embedded beside it.

    Args:
        section: A recipe's [trunk] section.

    Raises:
        UsageError: `augment` cannot be read, or the decoder does not decode what views are cut from.
    """
    views = make_views(section.augment, section.views)
    if views and section.decode != "exact":
        raise UsageError(
            f"--views {len(views)}: views are cut from the whole image, and --decode {section.decode} does not decode "
            f"all of it; leave --decode out"
        ).correct("--decode", None)
    return (None, *views)
