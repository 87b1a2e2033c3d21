"""Show an item of a log on one line: a chat message with its speaker and text, any other item as JSON."""

from __future__ import annotations

from typing import Any

from . import show

_TEXT_MAX = 2000  # characters of a message that are searched for its first line
_TOOL_MAX = 120  # characters of a tool's output; it may be megabytes, and a person wants to know that it was there
_ROLES = ("role", "type", "kind", "event")
_TEXTS = ("content", "text", "message", "summary", "output", "result", "error")


def speaker(value: Any) -> str:
    """Return the role of a message, or the kind of the item; empty if it names neither."""
    if not isinstance(value, dict):
        return ""
    inner = value.get("message")
    found = next((value[name] for name in _ROLES if isinstance(value.get(name), str)), "")
    if isinstance(inner, dict) and isinstance(inner.get("role"), str):
        found = inner["role"]
    return show.text(found[:20])


def line(value: Any, limit: int) -> str:
    """Return the first line of an item's text, in at most `limit` characters."""
    text = _said(value)
    if text is None:
        return show.value(value, limit)
    head, _, rest = text[:_TEXT_MAX].strip().partition("\n")
    more = " …" if rest.strip() or len(text) > _TEXT_MAX else ""
    shown = show.text(head.strip())
    room = limit - len(more)
    return (shown if len(shown) <= room else shown[: room - 1] + "…") + more


def searched(value: Any) -> str:
    """Return the text of an item that --grep searches."""
    import json

    return _said(value) or json.dumps(value, ensure_ascii=False)


def _said(value: Any) -> str | None:
    """Return the text of a message; None for an item that is no message."""
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        parts = [part for part in map(_part, value) if part]
        return "  ".join(parts) if parts else None
    if not isinstance(value, dict):
        return None
    calls = _calls(value)
    for name in _TEXTS:
        said = _said(value[name]) if name in value else None
        if said:
            return f"{said}  {calls}" if calls else said
    return calls or None


def _part(part: Any) -> str | None:
    """Return one part of a message: text as it is, a call by its name, a tool's output cut, a picture by its kind."""
    if isinstance(part, str):
        return part
    if not isinstance(part, dict):
        return None
    kind = part.get("type", "")
    if "result" in str(kind) or "output" in str(kind):
        said = _said(part.get("content", part.get("output"))) or show.value(part.get("content", part.get("output")))
        return f"[result: {_cut(said)}]"
    if "use" in str(kind) or "call" in str(kind):
        return f"[{part.get('name', kind)} {show.value(part.get('input', part.get('arguments', {})), _TOOL_MAX)}]"
    if isinstance(part.get("text"), str):
        return str(part["text"])
    return f"[{kind}]" if isinstance(kind, str) and kind else None


def _calls(message: dict[str, Any]) -> str:
    """Return the tools that a message of the OpenAI shape calls."""
    calls = message.get("tool_calls")
    names = [call.get("function", call).get("name") for call in calls if isinstance(call, dict)] if calls else []
    return " ".join(f"[{name}]" for name in names if isinstance(name, str))


def _cut(text: str) -> str:
    head = text.strip().partition("\n")[0]
    return head if len(text) <= _TOOL_MAX else f"{head[:_TOOL_MAX]}… {show.size(len(text))}"
