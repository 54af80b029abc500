"""What the documentation says of the packages: their order, a picture of their imports, the names that they offer."""

import ast
from pathlib import Path

from markdown_table import table


def packages() -> str:
    """Return a table of the packages in the order of the layers, each with the first sentence of its docstring."""
    rows = [(f"`{name}`", _first_sentence(_source(name))) for name in _in_order()]
    return table(("package or module", "what it is"), rows)


def package_names() -> str:
    """Return a section for each package, with the names that it offers to the others."""
    parts = []
    for name in _in_order():
        names = _offered(_source(name).with_suffix(".pyi"))
        if names:
            listed = "\n".join(f"   {offered}" for offered in names)
            directive = f".. currentmodule:: featcache.{name}\n\n.. autosummary::\n\n{listed}"
            sentence = _first_sentence(_source(name))
            parts.append(f"## `featcache.{name}`\n\n{sentence}\n\n```{{eval-rst}}\n{directive}\n```")
    return "\n\n".join(parts)


def python_names() -> str:
    """Return the entries of every public name of `featcache`: functions, then classes, then errors."""
    import featcache

    names = [name for name in featcache.__all__ if not name.startswith("_")]
    errors = [name for name in names if name.endswith("Error")]
    classes = [name for name in names if name[0].isupper() and name not in errors]
    functions = [name for name in names if name[0].islower()]
    groups = (
        ("Functions", "autofunction", functions, ""),
        ("What they return and take", "autoclass", classes, "\n   :members:"),
        ("Errors", "autoexception", errors, ""),
    )
    return "\n\n".join(
        f"## {title}\n\n```{{eval-rst}}\n.. currentmodule:: featcache\n\n"
        + "\n\n".join(f".. {directive}:: {name}{options}" for name in chosen)
        + "\n```"
        for title, directive, chosen, options in groups
    )


def _in_order() -> list[str]:
    """Return the packages and modules of featcache, each before those that it imports."""
    return [name for layer in reversed(layers(imports())) for name in layer]


def _source(name: str) -> Path:
    import featcache

    folder = Path(featcache.__file__).parent / name
    return folder / "__init__.py" if folder.is_dir() else folder.with_suffix(".py")


def _first_sentence(path: Path) -> str:
    text = " ".join((ast.get_docstring(ast.parse(path.read_text("utf-8"))) or "").split("\n\n")[0].split())
    return text.replace("<", "&lt;")


def _offered(stub: Path) -> list[str]:
    """Return the names that a package offers to the others, as its `__init__.pyi` lists them."""
    if not stub.is_file():
        return []
    names = [
        alias.asname or alias.name
        for node in ast.parse(stub.read_text("utf-8")).body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    ]
    return sorted(name for name in names if not name.startswith("_"))


def imports() -> dict[str, set[str]]:
    """Return for each top-level package or module of featcache those that it imports."""
    import grimp

    graph = grimp.build_graph("featcache", exclude_type_checking_imports=True, cache_dir=None)
    names = sorted(child for child in graph.find_children("featcache") if not child.startswith("featcache._"))
    for name in names:
        graph.squash_module(name)
    short = {name: name.removeprefix("featcache.") for name in names}
    return {
        short[name]: {short[other] for other in graph.find_modules_directly_imported_by(name) if other in short}
        - {short[name]}
        for name in names
    }


def layers(graph: dict[str, set[str]]) -> list[list[str]]:
    """Return the names in layers: each imports only what stands in a layer before its own."""
    heights: dict[str, int] = {}

    def height(name: str, above: tuple[str, ...] = ()) -> int:
        if name in above:
            raise ValueError(f"a circle of imports: {' -> '.join((*above, name))}")
        if name not in heights:
            heights[name] = 1 + max((height(other, (*above, name)) for other in graph[name]), default=-1)
        return heights[name]

    for name in graph:
        height(name)
    return [sorted(name for name in graph if heights[name] == level) for level in range(max(heights.values()) + 1)]


def reduced(graph: dict[str, set[str]]) -> dict[str, set[str]]:
    """Return the imports that do not follow from others: the transitive reduction."""
    reach: dict[str, set[str]] = {}
    for layer in layers(graph):
        for name in layer:
            reach[name] = graph[name].union(*(reach[other] for other in graph[name]))
    return {
        name: {other for other in direct if not any(other in reach[way] for way in direct - {other})}
        for name, direct in graph.items()
    }


_WIDTH, _BOX, _HEIGHT, _ROW, _GAP = 960, 132, 30, 62, 24


def picture_of_packages() -> str:
    """Return an SVG of the packages: a row for each layer, an arrow for each import that follows from no others."""
    graph = imports()
    rows = list(reversed(layers(graph)))
    edges = reduced(graph)
    places = _places(rows, edges)
    lines = [
        f'<path d="M{x:.0f} {y + _HEIGHT} C{x:.0f} {y + _ROW}, {u:.0f} {v - _ROW + _HEIGHT}, {u:.0f} {v - 3}"/>'
        for name in sorted(edges)
        for other in sorted(edges[name])
        for (x, y), (u, v) in [(places[name], places[other])]
    ]
    boxes = [
        f'<rect x="{x - _BOX / 2:.0f}" y="{y}" width="{_BOX}" height="{_HEIGHT}" rx="6"/>'
        f'<text x="{x:.0f}" y="{y + 20}">{name}</text>'
        for name, (x, y) in sorted(places.items())
    ]
    height = len(rows) * _ROW
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" role="img" '
            f'aria-label="The packages of featcache and their imports">',
            '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" '
            'orient="auto"><path d="M0 0L8 4L0 8z" fill="#7286a8" stroke="none"/></marker></defs>',
            '<g fill="none" stroke="#7286a8" stroke-width="1.2" marker-end="url(#tip)">',
            *lines,
            "</g>",
            '<g fill="#eef2f9" stroke="#4a6797" font-family="sans-serif" font-size="14" text-anchor="middle">',
            *(box.replace("<text ", '<text fill="#17263f" stroke="none" ') for box in boxes),
            "</g>",
            "</svg>",
            "",
        ]
    )


def _places(rows: list[list[str]], edges: dict[str, set[str]]) -> dict[str, tuple[float, int]]:
    """Return the middle of each box's upper edge; a box stands below what imports it, as far as there is room."""
    places: dict[str, tuple[float, int]] = {}
    for number, row in enumerate(rows):

        def wanted(name: str) -> float:
            above = [places[other][0] for other in places if name in edges[other]]
            return sum(above) / len(above) if above else _WIDTH / 2

        ordered = sorted(row, key=lambda name: (wanted(name), name))
        width = len(row) * _BOX + (len(row) - 1) * _GAP
        middle = sum(map(wanted, row)) / len(row) + (60 if number % 2 else -60) * (len(row) == 1)
        left = min(max(middle - width / 2, 4), _WIDTH - width - 4)
        for place, name in enumerate(ordered):
            places[name] = (left + place * (_BOX + _GAP) + _BOX / 2, number * _ROW + 10)
    return places
