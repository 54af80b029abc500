"""What the documentation says of the command line and of the recipe, from their declarations."""

import json
import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from markdown_table import table

Schema = dict[str, Any]


def command_line() -> str:
    """Return a section for each command: what it does, its arguments and its options."""
    return "\n\n".join(_command(name, command) for name, command in commands().items())


def commands() -> dict[str, Any]:
    """Return featcache's commands by name, in the order of `featcache --help`."""
    import typer

    from featcache.cli.app import app

    import featcache.cli  # noqa: F401  isort: skip (its import makes the functions commands)

    return dict(typer.main.get_command(app).commands)  # type: ignore[attr-defined]


def _command(name: str, command: Any) -> str:
    arguments = [parameter for parameter in command.params if parameter.param_type_name == "argument"]
    options = [parameter for parameter in command.params if parameter.param_type_name == "option"]
    usage = " ".join(["featcache", name, *map(_usage, arguments), "[OPTIONS]"])
    parts = [f"## `featcache {name}`", _plain(command.help), f"```text\n{usage}\n```"]
    if arguments:
        rows = [(f"`{_placeholder(argument)}`", _help(argument)) for argument in arguments]
        parts.append(table(("argument", "meaning"), rows))
    rows_of_options = [(_flags(option), _value(option), _default(option), _help(option)) for option in options]
    parts.append(table(("option", "value", "default", "meaning"), rows_of_options))
    return "\n\n".join(parts)


def _placeholder(argument: Any) -> str:
    return str(argument.metavar or argument.name.upper())


def _usage(argument: Any) -> str:
    placeholder = _placeholder(argument)
    if argument.nargs == -1 and "…" not in placeholder:
        placeholder += "…"
    return placeholder if argument.required else f"[{placeholder}]"


def _flags(option: Any) -> str:
    return ", ".join(f"`{flag}`" for flag in (*option.opts, *option.secondary_opts))


def _value(option: Any) -> str:
    """Return the type of an option's value; "" for a switch. Its range stands in its help."""
    if option.is_flag:
        return ""
    annotation = option.type_descriptor.annotation
    several = option.multiple or typing.get_origin(annotation) in (list, tuple)
    word = _type_word(annotation)
    return f"{word}{', may be repeated' if several else ''}"


def _type_word(annotation: Any) -> str:
    if typing.get_origin(annotation) is typing.Literal:
        return ", ".join(f"`{choice}`" for choice in typing.get_args(annotation))
    inner = [kind for kind in typing.get_args(annotation) if kind is not types.NoneType]
    if inner:
        return _type_word(inner[0])
    return {float: "number", int: "whole number", Path: "file"}.get(annotation, "text")


def _default(option: Any) -> str:
    if option.required:
        return "required"
    if option.is_flag and not option.default:
        return "" if option.secondary_opts else "off"
    return "" if option.default in (None, [], ()) else f"`{option.default}`"


def _help(parameter: Any) -> str:
    """Return what `--help` says of a parameter; else what the recipe says of the setting of that name."""
    text = parameter.help or _descriptions().get(parameter.name, "")
    variable = f" Environment variable: `{parameter.envvar}`." if parameter.envvar else ""
    return _plain(f"{text}{variable}")


def recipe() -> str:
    """Return a section for each table of a recipe, with its keys, types, ranges and defaults."""
    parts = []
    for title, section in sections():
        properties = section["properties"]
        required = section.get("required", [])
        rows = [
            (f"`{name}`", _kind(field), _plain_default(field, required=name in required), _meaning(name, field))
            for name, field in properties.items()
            if _reference(field) is None
        ]
        about = _plain(section.get("description", "").split("\n\n")[0])
        parts += [f"## {title}", about, table(("key", "value", "default", "meaning"), rows)]
    return "\n\n".join(part for part in parts if part)


def sections() -> Iterator[tuple[str, Schema]]:
    """Yield each table of a recipe: its title, and the JSON schema of what stands in it, references resolved."""
    from featcache.recipe import Recipe

    schema = Recipe.model_json_schema()
    definitions = schema["$defs"]
    yield "The top of the file", schema
    for name, field in schema["properties"].items():
        for definition in _definitions(field, definitions):
            layout = definition["properties"].get("layout", {}).get("const")
            if name == "data" and layout is None:
                continue  # the stand-in for a layout that does not exist
            yield f"`[{name}]`" + (f" with `layout = {json.dumps(layout)}`" if layout else ""), definition
    yield from _nested(schema, definitions)


def _nested(schema: Schema, definitions: dict[str, Schema]) -> Iterator[tuple[str, Schema]]:
    """Yield the tables within tables, each once: `[data.split]`."""
    seen = set()
    for name, field in schema["properties"].items():
        for definition in _definitions(field, definitions):
            for inner, value in definition["properties"].items():
                title = f"`[{name}.{inner}]`"
                for nested in _definitions(value, definitions):
                    if title not in seen:
                        seen.add(title)
                        yield title, nested


def _reference(field: Schema) -> str | None:
    """Return the name of the definition that a field refers to, None where it is a plain value."""
    for choice in (field, *field.get("allOf", ()), *field.get("anyOf", ()), *field.get("oneOf", ())):
        if "$ref" in choice:
            return str(choice["$ref"]).rpartition("/")[2]
    return None


def _definitions(field: Schema, definitions: dict[str, Schema]) -> list[Schema]:
    choices = (field, *field.get("allOf", ()), *field.get("anyOf", ()), *field.get("oneOf", ()))
    return [definitions[choice["$ref"].rpartition("/")[2]] for choice in choices if "$ref" in choice]


def _kind(field: Schema) -> str:
    """Return the type and the range of a value in words."""
    choices = [choice for choice in field.get("anyOf", [field]) if choice.get("type") != "null"]
    may_be_missing = len(choices) < len(field.get("anyOf", choices))  # a setting of the data, no grid of heads
    return " or ".join(dict.fromkeys(_plain_kind(choice, is_grid=not may_be_missing) for choice in choices))


def _plain_kind(field: Schema, *, is_grid: bool = True) -> str:
    if "const" in field:
        return f'`"{field["const"]}"`'
    if "enum" in field:
        return ", ".join(f'`"{value}"`' for value in field["enum"])
    if field.get("type") == "array":
        item = _kind(field.get("items", {}))
        return f"{item}; a list trains one head for each" if is_grid else f"{item}, or a list of it"
    word = {"integer": "whole number", "number": "number", "boolean": "`true` or `false`", "object": "tables"}
    return ", ".join(filter(None, [word.get(field.get("type", ""), "text"), _range(field)]))


def _range(field: Schema) -> str:
    """Return the range of a number as a message words it: "from 0 to below 1"; "" where it has none."""
    from featcache.recipe import DeclaredSetting, Setting

    limits = {"exclusiveMinimum": "gt", "minimum": "ge", "exclusiveMaximum": "lt", "maximum": "le"}
    declaration = Setting("", **{limit: field[key] for key, limit in limits.items() if key in field})
    kind = int if field.get("type") == "integer" else float
    return DeclaredSetting("", kind, (), optional=False, default=None, declaration=declaration).range


def _plain_default(field: Schema, *, required: bool) -> str:
    if required:
        return "required"
    default = field.get("default")
    if isinstance(default, list) and len(default) == 1:
        default = default[0]
    if default in (None, {}, []):
        return ""
    return f"`{json.dumps(default)}`"


def _meaning(name: str, field: Schema) -> str:
    """Return a setting's description; else what the command line says of the flag of that name."""
    return _plain(field.get("description") or _flag_help().get(name, ""))


def _plain(text: str) -> str:
    """Return a text of the code as one line of Markdown that shows it as it is."""
    return " ".join(text.split()).replace("<", "&lt;").replace("*", r"\*")


def _descriptions() -> dict[str, str]:
    """Return the description of each setting of a recipe that has one."""
    return {
        name: field["description"]
        for _, section in sections()
        for name, field in section["properties"].items()
        if "description" in field
    }


def _flag_help() -> dict[str, str]:
    """Return the help of each option of the commands whose flags are settings of a recipe."""
    every = commands()
    return {
        parameter.name: parameter.help
        for name in ("fit-head", "extract")
        for parameter in every[name].params
        if parameter.help
    }
