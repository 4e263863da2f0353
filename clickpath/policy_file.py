"""Policy files: YAML 1.1 that is read strictly, every mistake with its line.

The text is composed, not loaded: the nodes know their lines, and no value turns into something
else on the way. `clickpath.policy_reader` gives them their meaning.
"""

from __future__ import annotations

import math
import re
from importlib import resources
from typing import Final

import yaml

from clickpath.errors import ConfigError
from clickpath.placed import Mistake, Placed, Value
from clickpath.policy import Policy
from clickpath.policy_reader import PolicyReader

#: A policy is written by people; anything longer is another file by mistake.
MAX_POLICY_CHARS: Final = 1_000_000
MAX_POLICY_VALUES: Final = 100_000

_TAG: Final = "tag:yaml.org,2002:"
_DECIMAL: Final = re.compile(r"[-+]?(0|[1-9][0-9]*)")


def load_policy(text: str, where: str) -> Policy:
    """The policy in a YAML text.

    Args:
        text: The file's content.
        where: How to call it in messages, as a rule its path.

    Raises:
        ConfigError: The first mistake, with its line, and how many more there are.
    """
    policy, mistakes = lint_policy(text)
    if policy is None:
        first, more = mistakes[0], len(mistakes) - 1
        rest = f" (and {more} more, see clickpath policy lint)" if more else ""
        raise ConfigError(f"{where}:{first}{rest}")
    return policy


def lint_policy(text: str) -> tuple[Policy | None, tuple[Mistake, ...]]:
    """The policy, or None, and every mistake in order of line."""
    mistakes: list[Mistake] = []
    try:
        root = _root(text, mistakes)
    except RecursionError:
        root = None
        mistakes.append(Mistake(1, "", "is nested too deeply"))
    if root is None:
        return None, tuple(mistakes)
    reader = PolicyReader(mistakes)
    policy = reader.policy(root)
    return (None if mistakes else policy), tuple(sorted(mistakes))


def default_policy() -> Policy:
    """The policy that ships with Clickpath."""
    return load_policy(default_policy_text(), "default_policy.yaml")


def default_policy_text() -> str:
    """The YAML text of the default policy: a commented example to start from."""
    return resources.files("clickpath").joinpath("default_policy.yaml").read_text("utf-8")


def _root(text: str, mistakes: list[Mistake]) -> Placed | None:
    if len(text) > MAX_POLICY_CHARS:
        mistakes.append(Mistake(1, "", f"has {len(text)} characters, at most {MAX_POLICY_CHARS}"))
        return None
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        mistakes.append(Mistake(line, "", f"is no YAML: {error.problem or error.context}"))
        return None
    except yaml.YAMLError as error:
        mistakes.append(Mistake(1, "", f"is no YAML: {str(error).splitlines()[0]}"))
        return None
    if node is None:
        mistakes.append(Mistake(1, "", "is empty"))
        return None
    if _expanded(node, MAX_POLICY_VALUES) > MAX_POLICY_VALUES:
        mistakes.append(Mistake(1, "", f"has more than {MAX_POLICY_VALUES} values"))
        return None
    return _placed(node, node.start_mark.line + 1, "", mistakes)


def _expanded(node: yaml.Node, most: int) -> int:
    """How many values a node has with its aliases written out; stops counting beyond `most`."""
    count, todo = 0, [node]
    while todo and count <= most:
        count += 1
        value = todo.pop().value
        if isinstance(value, list):
            for item in value:
                todo.extend(item if isinstance(item, tuple) else (item,))
    return count


def _placed(node: yaml.Node, line: int, place: str, mistakes: list[Mistake]) -> Placed:
    if isinstance(node, yaml.MappingNode):
        return Placed(line, _fields(node, place, mistakes))
    if isinstance(node, yaml.SequenceNode):
        return Placed(
            line,
            tuple(
                _placed(item, item.start_mark.line + 1, f"{place}[{n}]", mistakes)
                for n, item in enumerate(node.value)
            ),
        )
    return Placed(line, _scalar(node, line, place, mistakes))


def _fields(node: yaml.MappingNode, place: str, mistakes: list[Mistake]) -> dict[str, Placed]:
    fields: dict[str, Placed] = {}
    for key, value in node.value:
        line = key.start_mark.line + 1
        if not isinstance(key, yaml.ScalarNode):
            mistakes.append(Mistake(line, place, "has a key that is no text"))
            continue
        name = str(key.value)
        inner = f"{place}.{name}" if place else name
        if name in fields:
            mistakes.append(
                Mistake(line, inner, f"stands here again, after line {fields[name].line}")
            )
            continue
        fields[name] = _placed(value, line, inner, mistakes)
    return fields


def _scalar(node: yaml.Node, line: int, place: str, mistakes: list[Mistake]) -> Value:
    """What a scalar says; what YAML 1.1 reads in surprising ways is a mistake."""
    text = str(node.value)
    match node.tag.removeprefix(_TAG):
        case "null":
            return None
        case "bool":
            if text in ("true", "false"):
                return text == "true"
            mistakes.append(Mistake(line, place, f"is {text}; write true, false, or {text!r}"))
        case "int":
            if _DECIMAL.fullmatch(text) and len(text) < 20:
                return int(text)
            mistakes.append(Mistake(line, place, f"is {text}; write a plain number, or {text!r}"))
        case "float":
            try:
                number = float(text)
            except ValueError:
                number = math.nan
            if math.isfinite(number):
                return number
            mistakes.append(Mistake(line, place, f"is {text}; write a plain number, or {text!r}"))
    return text
