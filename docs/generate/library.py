"""The parts of a page that describe classes, methods and functions: signatures and docstrings."""

from __future__ import annotations

import ast
import inspect
import io
import json
import tokenize
from dataclasses import fields, is_dataclass
from typing import TYPE_CHECKING, Any, Final

import shardstore
from shardstore import aio, archive, typed
from shardstore import reports as report_module
from shardstore._draft_log import DraftLog

from . import markdown

if TYPE_CHECKING:
    from collections.abc import Iterator

LINE_MAX: Final = 100
ROOT_NAMES: Final = {  # what the examples call an object of each class
    "Store": "store", "Archive": "store.archive", "Session": "session", "SessionInfo": "info", "Draft": "draft",
    "DraftLog": "draft.log", "Log": "session.log", "AsyncStore": "AsyncStore",
    "TypedStore": "typed", "TypedSession": "session", "TypedDraft": "draft", "TypedLog": "session.log",
    "TypedDraftLog": "draft.log",
}  # fmt: skip


def find(name: str) -> Any:
    """Return the class or function of this public name."""
    others = {"Archive": archive.Archive, "AsyncStore": aio.AsyncStore, "DraftLog": DraftLog}
    others |= {one: getattr(typed, one) for one in typed.__all__}
    return others[name] if name in others else getattr(shardstore, name)


def members(name: str) -> list[str]:
    """Return what a user meets of a class: its public methods and properties, in the order of the source."""
    return [
        member
        for kind in reversed(find(name).__mro__)
        if kind.__module__.partition(".")[0] == "shardstore"
        for member in vars(kind)
        if not member.startswith("_") and (callable(getattr(find(name), member)) or _is_property(find(name), member))
    ]


def _is_property(kind: Any, name: str) -> bool:
    return isinstance(inspect.getattr_static(kind, name), property)


def whole_class(name: str) -> str:
    """Return how a class is made, and its docstring."""
    kind = find(name)
    parameters = inspect.signature(kind).parameters
    call = _call(name, kind) if name in {"Store", "AsyncStore"} else ""
    return (f"```python\n{call}\n```\n\n" if call else "") + markdown.docstring(kind.__doc__, parameters)


def methods(name: str, *names: str) -> str:
    """Return a section for each method: signature, docstring."""
    return "\n\n".join(_section(name, method) for method in names)


def _section(name: str, method: str) -> str:
    made = getattr(find(name), method)
    owner = name if inspect.ismethod(made) else ROOT_NAMES[name]  # a class method is called on the class
    call = _call(f"{owner}.{method}", made)
    text = markdown.docstring(made.__doc__, inspect.signature(made).parameters)
    return f"### {owner}.{method}\n\n```python\n{call}\n```\n\n{text}"


def function(*names: str) -> str:
    """Return a section for each function of the package: signature, docstring."""
    sections = []
    for name in names:
        made = find(name)
        text = markdown.docstring(made.__doc__, inspect.signature(made).parameters)
        sections.append(f"### {name}\n\n```python\n{_call(name, made)}\n```\n\n{text}")
    return "\n\n".join(sections)


def properties(name: str, *names: str) -> str:
    """Return a table of properties and small methods, with the first line of each docstring."""
    rows = []
    for one in names:
        made = inspect.getattr_static(find(name), one)
        if isinstance(made, property):
            rows.append((f"`.{one}`", _annotation(inspect.signature(made.fget).return_annotation), _first(made)))
        else:
            signature = _signature(made)
            call, _, result = signature.rpartition(" -> ")
            rows.append((f"`.{one}{call}`", f"`{result}`", _first(made)))
    return markdown.table(("member", "type", "meaning"), rows)


def _annotation(annotation: object) -> str:
    return f"`{_plain(str(annotation))}`"


def _first(made: Any) -> str:
    paragraph = inspect.cleandoc(made.__doc__ or "").split("\n\n")[0]
    return markdown.prose(" ".join(paragraph.splitlines()))


def awaited() -> str:
    """Return the names of the verbs of AsyncStore that are those of Store, awaited."""
    same = [name for name in members("AsyncStore") if inspect.iscoroutinefunction(getattr(aio.AsyncStore, name))]
    return ", ".join(f"`{name}`" for name in sorted(same)) + "."


def reports(*names: str) -> str:
    """Return a section for each report: its fields, and what the source says beside them."""
    return "\n\n".join(_report(name) for name in names or sorted(shardstore.__all__) if is_dataclass(find(name)))


def _report(name: str) -> str:
    kind = find(name)
    remarks = _remarks(name)
    rows = [(f"`.{one.name}`", f"`{one.type}`", markdown.prose(remarks.get(one.name, ""))) for one in fields(kind)]
    rows += [(f"`.{one}`", f"`{_return_of(kind, one)}`", _first(getattr(kind, one))) for one in _extra(kind)]
    return f"### {name}\n\n{markdown.docstring(kind.__doc__)}\n\n" + markdown.table(("field", "type", "meaning"), rows)


def _extra(kind: Any) -> list[str]:
    return [name for name, value in vars(kind).items() if isinstance(value, property)]


def _return_of(kind: Any, name: str) -> str:
    return str(inspect.signature(getattr(kind, name).fget).return_annotation)


def _remarks(name: str) -> dict[str, str]:
    """Return the comments of a report's fields: behind the field, or on the lines above it."""
    source = inspect.getsource(report_module)
    (body,) = (one.body for one in ast.parse(source).body if isinstance(one, ast.ClassDef) and one.name == name)
    comments = dict(_comments(source))
    found = {}
    for one in body:
        if isinstance(one, ast.AnnAssign) and isinstance(one.target, ast.Name):
            above: list[str] = []
            line = one.lineno - 1
            while _alone(source, line):
                above.insert(0, comments[line])
                line -= 1
            found[one.target.id] = " ".join([*above, *filter(None, [comments.get(one.lineno)])])
    return found


def _alone(source: str, line: int) -> bool:
    return source.splitlines()[line - 1].strip().startswith("#")


def _comments(source: str) -> Iterator[tuple[int, str]]:
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT and "type:" not in token.string and "noqa" not in token.string:
            yield token.start[0], token.string.lstrip("# ")


def _plain(text: str) -> str:
    return text.replace("builtins.", "").replace("typing.", "")


def _signature(made: Any) -> str:
    """Return a signature without `self`, and without the None that a class returns."""
    found = inspect.signature(made)
    if inspect.isclass(made):
        found = found.replace(return_annotation=found.empty)
    parameters = [one for one in found.parameters.values() if one.name not in ("self", "cls")]
    parameters = [
        one.replace(default=_Dots()) if one.default is not one.empty and type(one.default) is object else one
        for one in parameters
    ]
    return _plain(_unquoted(found.replace(parameters=parameters)))


def _unquoted(signature: inspect.Signature) -> str:
    """Return a signature whose annotations, which are text here, stand without quotes."""
    texts = []
    for one in signature.parameters.values():
        star = {one.VAR_POSITIONAL: "*", one.VAR_KEYWORD: "**"}.get(one.kind, "")
        note = "" if one.annotation is one.empty else f": {one.annotation}"
        default = (
            "" if one.default is one.empty else f" = {_literal(one.default)}" if note else f"={_literal(one.default)}"
        )
        if one.kind is one.KEYWORD_ONLY and not any(text.startswith("*") for text in texts):
            texts.append("*")
        texts.append(f"{star}{one.name}{note}{default}")
    result = "" if signature.return_annotation is signature.empty else f" -> {signature.return_annotation}"
    return f"({', '.join(texts)}){result}"


def _literal(value: object) -> str:
    return json.dumps(value) if type(value) is str else repr(value)


class _Dots:
    """The default of a setting that stays as it is."""

    def __repr__(self) -> str:
        return "..."


def _call(name: str, made: Any) -> str:
    """Return a call with its parameters, on one line, or each on its own."""
    prefix = "await " if inspect.iscoroutinefunction(made) else ""
    name = name.replace("AsyncStore.", "store.")
    line = f"{prefix}{name}{_signature(made)}"
    if len(line) <= LINE_MAX:
        return line
    inside, _, result = line.partition("(")[2].rpartition(")")
    return f"{prefix}{name}(\n" + "".join(f"    {one},\n" for one in _split(inside)) + f"){result}"


def _split(text: str) -> Iterator[str]:
    """Yield the parameters of a signature: commas inside brackets do not part them."""
    depth, start = 0, 0
    for place, char in enumerate(text):
        depth += (char in "[(") - (char in "])")
        if char == "," and not depth:
            yield text[start:place]
            start = place + 2
    yield text[start:]
