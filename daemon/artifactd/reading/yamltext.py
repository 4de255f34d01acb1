"""YAML as plain data, from files that nobody vouches for.

No tag is ever executed or looked up: the document is composed to nodes, and the plain kinds alone are made of them.
Aliases are followed, but only as far as the document stays small once they are written out.
"""

from __future__ import annotations

from collections.abc import Iterator

import yaml
from yaml.constructor import SafeConstructor
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from artifactd.reading.problems import WHOLE, Unreadable, text_of
from artifactd.reading.tree import MAX_DEPTH, Table

MAX_NODES = 100_000
"""Most keys and values of a document, with every alias written out."""

# Base 60 numbers and the like take quadratic time; no number that anybody means is longer.
_MAX_NUMBER_CHARACTERS = 400

_TAG = "tag:yaml.org,2002:"
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_NUMBERS = SafeConstructor()


def load_yaml(data: bytes) -> object:
    """Read one YAML document.

    Args:
        data: The file's content, UTF-8.

    Returns:
        None for an empty document; else text, numbers, truth values, None, lists, and ``Table`` for mappings, with
        merges (``<<``) written out and keys as they are spelled in the file. Dates and ``!!binary`` stay text as
        written. A Python tuple or set is a list. Of a tag that is not YAML's own, the data below it remains; of
        ``!!python/name:torch.nn.ReLU``, which has none, its name as text.

    Raises:
        Unreadable: It is no YAML, holds several documents, or unfolds to more than ``MAX_NODES``.
    """
    try:
        root = yaml.compose(text_of(data), Loader=_LOADER)
    except yaml.MarkedYAMLError as error:
        raise Unreadable(_place(error.problem_mark), f"not YAML: {error.problem or error.context}") from None
    except yaml.YAMLError as error:
        raise Unreadable(WHOLE, f"not YAML: {getattr(error, 'reason', 'it cannot be read')}") from None
    except RecursionError:
        raise Unreadable(WHOLE, "it is nested too deeply") from None
    if root is None:
        return None
    _weigh(root, {}, 0)
    return _plain(root)


def _weigh(node: Node, known: dict[int, tuple[int, int] | None], depth: int) -> tuple[int, int]:
    """Nodes and levels below and with this one, aliases written out; without writing them out."""
    if id(node) in known:
        found = known[id(node)]
        if found is None:
            raise Unreadable(_place(node.start_mark), "an alias stands inside what it names")
        return found
    if depth > MAX_DEPTH:
        raise Unreadable(_place(node.start_mark), f"it is nested more than {MAX_DEPTH} levels deep")
    known[id(node)] = None
    nodes, levels = 1, 0
    for child in _children(node):
        more, below = _weigh(child, known, depth + 1)
        nodes, levels = nodes + more, max(levels, below)
    if nodes > MAX_NODES:
        raise Unreadable(_place(node.start_mark), f"it unfolds to more than {MAX_NODES:,} values")
    if levels >= MAX_DEPTH:
        raise Unreadable(_place(node.start_mark), f"its aliases nest more than {MAX_DEPTH} levels deep")
    known[id(node)] = nodes, levels + 1
    return nodes, levels + 1


def _children(node: Node) -> Iterator[Node]:
    if isinstance(node, SequenceNode):
        yield from node.value
    elif isinstance(node, MappingNode):
        for key, value in node.value:
            yield key
            yield value


def _plain(node: Node) -> object:
    if isinstance(node, ScalarNode):
        return _scalar(node)
    if isinstance(node, SequenceNode):
        return [_plain(item) for item in node.value]
    if node.tag == f"{_TAG}set":
        return [_plain(key) for key, _ in node.value]
    return _table(node)


def _table(node: Node) -> Table:
    own: list[tuple[str, object]] = []
    merged: dict[str, object] = {}
    for key, value in node.value:
        if key.tag == f"{_TAG}merge":
            for key_of_other, value_of_other in _merged(value):
                merged.setdefault(key_of_other, value_of_other)
        elif isinstance(key, ScalarNode):
            own.append((key.value, _plain(value)))
        else:
            raise Unreadable(_place(key.start_mark), "a key is a list or a mapping", "Use text for keys")
    named = {key for key, _ in own}
    return Table(tuple((key, value) for key, value in merged.items() if key not in named) + tuple(own))


def _merged(node: Node) -> Iterator[tuple[str, object]]:
    for other in node.value if isinstance(node, SequenceNode) else [node]:
        if not isinstance(other, MappingNode):
            raise Unreadable(_place(other.start_mark), "'<<' must name a mapping")
        yield from _table(other).pairs


def _scalar(node: ScalarNode) -> object:
    text: str = node.value
    kind = node.tag.removeprefix(_TAG)
    try:
        if kind == "null":
            return None
        if kind == "bool":
            return SafeConstructor.bool_values[text.lower()]
        if kind in ("int", "float") and len(text) <= _MAX_NUMBER_CHARACTERS:
            return _NUMBERS.construct_yaml_int(node) if kind == "int" else _NUMBERS.construct_yaml_float(node)
    except (ValueError, KeyError, OverflowError, IndexError):
        return text  # '!!int abc' by hand: told as it is written
    if not text and kind.startswith("python/"):
        return kind.partition(":")[2]
    return text


def _place(mark: object) -> str:
    line = getattr(mark, "line", None)
    return WHOLE if line is None else f"line {line + 1}"
