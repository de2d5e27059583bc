"""Read and write users' YAML: every problem at once, each with its place and what would work.

YAML is read by the 1.2 rules people expect of numbers (`8e-5` is one), and a key written
twice is a problem instead of a silent choice.
"""

import json
import re
from collections.abc import Hashable, Mapping, Sequence
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails
from typing_extensions import override

from orchestrator.errors import InvalidFile, Problem, nearest
from orchestrator.specs.card import CARD_TAG, NAME_TAG
from orchestrator.specs.run import RunSpec

Model = TypeVar("Model", bound=BaseModel)
Path = tuple[str | int, ...]

_NEVER_WRITTEN = {CARD_TAG, NAME_TAG, "[key]"}
"""Parts that pydantic puts into a place beside the keys of the file."""

_FLOAT = re.compile(r"^[-+]?(\d[\d_]*)(\.\d*)?[eE][-+]?\d+$")

_KEY_LINE = re.compile(r"^( *)([A-Za-z_][A-Za-z0-9_]*):")
_INDENT = 2

_WORDS: Mapping[type, str] = {list: "a list", str: "a single text"}


class _Loader(yaml.SafeLoader):
    """A safe loader that refuses a key written twice."""

    @override
    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                line = key_node.start_mark.line + 1
                raise yaml.YAMLError(f"line {line}: key '{key}' is written twice")  # noqa: TRY003, EM102
            seen.add(key)
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver("tag:yaml.org,2002:float", _FLOAT, list("-+0123456789"))


def parse_run(text: str, *, file: str) -> RunSpec:
    """Return the run file that `text` spells.

    Raises:
        InvalidFile: the text is not YAML or not a run file; all problems are named.
    """
    return parse(text, model=RunSpec, file=file)


def parse(text: str, *, model: type[Model], file: str) -> Model:
    """Return a user's YAML text as `model`.

    Raises:
        InvalidFile: the text is not YAML or does not fit the model; all problems are named.
    """
    data = mapping_of(text, file=file)
    found, problems = examined(data, model=model)
    if found is None or problems:
        raise InvalidFile(file=file, problems=problems)
    return found


def mapping_of(text: str, *, file: str) -> dict[str, Any]:
    """Return a YAML text that holds one mapping.

    Raises:
        InvalidFile: not YAML, or something else than a mapping.
    """
    try:
        data = yaml.load(text, Loader=_Loader)  # noqa: S506  a SafeLoader underneath
        _json_of(data)  # a loop of aliases, or a number of thousands of digits, shows here
    except (yaml.YAMLError, RecursionError, TypeError, ValueError) as error:
        problem = Problem(key="", message=f"not valid YAML: {_first_words(error)}")
        raise InvalidFile(file=file, problems=[problem]) from error
    if not isinstance(data, dict):
        what = "empty" if data is None else _WORDS.get(type(data), "a single value")
        raise InvalidFile(
            file=file, problems=[Problem(key="", message=f"the file is {what}, not a mapping")]
        )
    return data


def examined(
    data: Mapping[str, Any], *, model: type[Model]
) -> tuple[Model | None, tuple[Problem, ...]]:
    """Return the model and the problems of its shape.

    Unknown keys alone do not hide the model: it is given beside them, so that rules can be
    examined in the same reading.
    """
    try:
        return model.model_validate_json(_json_of(data)), ()
    except ValidationError as error:
        details = error.errors(include_url=False)
    problems = tuple(_problem_of(detail, data=data, model=model) for detail in details)
    if any(detail["type"] != "extra_forbidden" for detail in details):
        return None, problems
    pruned = json.loads(_json_of(data))
    for detail in details:
        _remove(pruned, _untagged(detail["loc"]))
    try:
        return model.model_validate_json(json.dumps(pruned)), problems
    except ValidationError:
        return None, problems


def yaml_of(spec: BaseModel) -> str:
    """Return a spec as YAML text that parses back to it; absent values are left out."""
    data = spec.model_dump(mode="json", by_alias=True, exclude_none=True)
    return yaml.safe_dump(data, sort_keys=False, allow_unicode=True, width=100)


def yaml_as_written(spec: BaseModel) -> str:
    """Return a spec as YAML text of what was given alone; what is a default is left out."""
    data = spec.model_dump(mode="json", by_alias=True, exclude_unset=True)
    return yaml.safe_dump(data, sort_keys=False, allow_unicode=True, width=100)


def yaml_with_comments(spec: BaseModel, comments: Mapping[str, Sequence[str]]) -> str:
    """Return `yaml_as_written` with comment lines above keys, told by their dotted path.

    Those of "" stand at the head. Keys inside lists have no path.
    """
    lines = [f"# {line}" for line in comments.get("", ())]
    path: list[str] = []
    for line in yaml_as_written(spec).splitlines():
        match = _KEY_LINE.match(line)
        if match is not None:
            indent = match[1]
            path[len(indent) // _INDENT :] = [match[2]]
            lines += [f"{indent}# {text}" for text in comments.get(".".join(path), ())]
        lines.append(line)
    return "\n".join(lines) + "\n"


def _json_of(data: Mapping[str, Any]) -> str:
    # JSON mode is what lets strict models take enum words and dates from text.
    return json.dumps(data, default=str)


def _problem_of(
    detail: ErrorDetails, *, data: Mapping[str, Any], model: type[BaseModel]
) -> Problem:
    path = _untagged(detail["loc"])
    key = ".".join(str(part) for part in path)
    message = str(detail["ctx"]["error"]) if detail["type"] == "value_error" else detail["msg"]
    if detail["type"] == "extra_forbidden":
        known = _keys_at(model, path[:-1])
        return Problem(key=key, message="unknown key", possible=nearest(str(path[-1]), known))
    if detail["type"] == "missing":
        return Problem(key=key, message="is required and absent")
    value = _value_at(data, path)
    if isinstance(value, dict | list):
        return Problem(key=key, message=_lower(message))
    return Problem(key=key, message=f"{value!r}: {_lower(message)}")


def _untagged(loc: Path) -> Path:
    return tuple(part for part in loc if part not in _NEVER_WRITTEN)


def _value_at(data: Any, path: Sequence[str | int]) -> Any:  # noqa: ANN401  a user's YAML
    for part in path:
        try:
            data = data[part]
        except (KeyError, IndexError, TypeError):
            return None
    return data


def _remove(data: Any, path: Path) -> None:  # noqa: ANN401  a user's YAML
    holder = _value_at(data, path[:-1])
    if isinstance(holder, dict):
        holder.pop(path[-1], None)


def _keys_at(model: type[BaseModel], path: Path) -> list[str]:
    """Return the keys allowed at a place, found by walking the JSON Schema."""
    schema = model.model_json_schema(by_alias=True)
    here: dict[str, Any] = schema
    for part in path:
        here = _mapping_in(here, schema).get("properties", {}).get(str(part), {})
    return sorted(_mapping_in(here, schema).get("properties", {}))


def _mapping_in(node: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    for option in (node, *node.get("anyOf", ()), *node.get("oneOf", ())):
        target = option
        if "$ref" in option:
            target = schema["$defs"][option["$ref"].rsplit("/", 1)[-1]]
        if "properties" in target:
            return dict(target)
    return node


def _first_words(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None)
    return f"line {mark.line + 1}: {problem}" if mark and problem else _lower(str(error))


def _lower(message: str) -> str:
    return message[:1].lower() + message[1:]
