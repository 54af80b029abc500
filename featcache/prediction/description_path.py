"""Where the JSON beside an exported model goes."""

from pathlib import Path

from featcache.files import parse_json, read_file

_MOST_BYTES = 1 << 24  # of the description of a model


def description_path(to: Path) -> Path:
    """Return where the JSON beside a model goes: to `model.json`, unless that is there and about another file."""
    about = to.with_suffix(".json")
    try:
        description = parse_json(read_file(about, _MOST_BYTES, follow_links=True))
    except FileNotFoundError:
        return about
    except (OSError, ValueError):
        description = None
    is_own = isinstance(description, dict) and description.get("model") == to.name
    return about if is_own else to.with_name(f"{to.name}.json")
