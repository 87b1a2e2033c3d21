"""Realistic OpenClaw sessions, made up: keys, entries and whole sessions.json files, the same for the same seed.

Shapes and sizes follow what people reported of their own stores: a small core that changes all the time, and in most
entries two blobs, `skillsSnapshot` and `systemPromptReport`, that hardly ever change and make 70-95 % of the bytes.
All text is generated.

usage: python -m bench.openclaw NAME OUT [--seed N]     writes OUT/sessions.json, indented as OpenClaw does
"""

from __future__ import annotations

import argparse
import json
import random
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

Entry = dict[str, Any]

NOW_MS = 1_771_290_458_500  # the moment all made-up times are counted back from
DAY_MS = 86_400_000


@dataclass(frozen=True)
class SizeClass:
    """How large an entry is, and how common. `share` in percent, bytes as compact JSON, both ends included."""

    share: int
    low: int
    high: int


SIZE_CLASSES = {
    "probe": SizeClass(5, 130, 160),  # a one-shot call: id and time, nothing else
    "core": SizeClass(25, 1_150, 1_500),
    "skills": SizeClass(20, 13_000, 17_000),
    "typical": SizeClass(35, 38_000, 44_000),
    "report": SizeClass(10, 58_000, 117_000),
    "giant": SizeClass(5, 230_000, 400_000),
}

POPULATIONS: dict[str, dict[str, int]] = {  # kind of key -> how many
    "personal": {"main": 1, "direct": 1, "topic": 7, "cron": 7, "run": 56},
    "busy": {"main": 1, "direct": 37, "topic": 20, "cron": 12, "run": 40, "subagent": 78},
    "orchestrator": {"main": 1, "direct": 6, "cron": 12, "run": 77, "subagent": 375},
    "team": {"main": 1, "thread": 1034},
    "cronfarm": {"main": 1, "direct": 24, "cron": 591, "run": 2087},
    "large": {"main": 1, "direct": 918, "group": 400, "thread": 1600, "subagent": 2000},
}
_EVERY_KIND = {"direct": 6, "group": 4, "topic": 8, "thread": 14, "cron": 8, "run": 30, "subagent": 28, "hook": 2}
_LARGE_BYTES = (19_000, 21_000)  # every entry of the "large" population

_AGENTS = ("main", "main", "main", "main", "ops", "research", "code-review")
_CHANNELS = ("telegram", "whatsapp", "signal", "slack", "discord", "feishu")
_MODELS = (
    ("anthropic", "claude-opus-4-6", 200_000),
    ("openai", "gpt-5.4", 272_000),
    ("google", "gemini-3-pro", 1_000_000),
)
_SUBJECTS = ("Ops", "Familie 🏡", "Zürich office", "deploys", "on-call", "読書会", "Invoices & taxes", "release-train")
_WORDS = (  # noqa: SIM905 - a list of 60 literals reads worse
    "agent answer branch browser build cache call channel check command context cron deploy draft error file find "
    "index list memory merge message model note open plan prompt queue read release report retry route run search "
    "session skill step store summary task test thread token tool trace update user verify wait worker write"
).split()


def entry(size_class: str, seed: int) -> Entry:
    """Return an entry of this size class; compact JSON of it has between the class's `low` and `high` bytes."""
    rng = random.Random(f"entry {size_class} {seed}")
    size = SIZE_CLASSES[size_class]
    return _probe(rng) if size_class == "probe" else _sized(rng, rng.randint(size.low, size.high))


def population(name: str, seed: int) -> dict[str, Entry]:
    """Return the whole store of one of POPULATIONS: key -> entry."""
    rng = random.Random(f"population {name} {seed}")
    store: dict[str, Entry] = {}
    for kind, count in POPULATIONS[name].items():
        for _ in range(count):
            key = _new_key(kind, rng, store)
            store[key] = made = _member(name, kind, rng)
            if kind in ("subagent", "run"):
                made.update(_job(rng, made["updatedAt"]))
    return store


def keys(n: int, seed: int) -> Iterator[str]:
    """Yield n different keys, of all kinds mixed."""
    rng = random.Random(f"keys {seed}")
    seen: dict[str, Any] = {}
    kinds = rng.choices([*_EVERY_KIND], [*_EVERY_KIND.values()], k=n)
    for kind in kinds:
        key = _new_key(kind, rng, seen)
        seen[key] = None
        yield key


def _member(name: str, kind: str, rng: random.Random) -> Entry:
    """Return the entry of one session of a population; most finished cron runs are small."""
    if name == "large":
        return _sized(rng, rng.randint(*_LARGE_BYTES))
    if kind == "run" and rng.random() < 0.6:
        return entry("core", rng.getrandbits(32))
    (size_class,) = rng.choices([*SIZE_CLASSES], [size.share for size in SIZE_CLASSES.values()])
    return entry(size_class, rng.getrandbits(32))


def _new_key(kind: str, rng: random.Random, taken: dict[str, Any]) -> str:
    while (key := _key(kind, rng)) in taken:
        pass
    return key


def _key(kind: str, rng: random.Random) -> str:  # noqa: PLR0911 - one line a kind
    """Return a key: agent:<agent>:<rest>."""
    agent = f"agent:{rng.choice(_AGENTS)}"
    match kind:
        case "main":
            return "agent:main:main"
        case "direct":
            channel = rng.choice(_CHANNELS)
            return f"{agent}:{channel}:direct:{_peer(channel, rng)}"
        case "group":
            return f"{agent}:signal:group:{_base64(rng)}"
        case "topic":
            return f"{agent}:telegram:group:-100{rng.randint(10**9, 10**10 - 1)}:topic:{rng.randint(1, 400)}"
        case "thread":
            return f"{agent}:slack:channel:C{rng.getrandbits(40):010X}:thread:{_slack_time(rng)}"
        case "cron":
            return f"{agent}:cron:{_uuid(rng)}"
        case "run":
            return f"{agent}:cron:{_uuid(rng)}:run:{_uuid(rng)}"
        case "subagent":
            return f"{agent}:subagent:{_uuid(rng)}"
    return f"{agent}:hook:{_uuid(rng)}"


def _peer(channel: str, rng: random.Random) -> str:
    if channel == "whatsapp":
        return f"+49151{rng.randint(10**7, 10**8 - 1)}@s.whatsapp.net"
    if channel == "feishu":
        return f"ou_{rng.getrandbits(128):032x}"
    return str(rng.randint(10**8, 10**10))


def _uuid(rng: random.Random) -> str:
    digits = f"{rng.getrandbits(128):032x}"
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-{'89ab'[rng.getrandbits(2)]}{digits[17:20]}-{digits[20:]}"


def _base64(rng: random.Random) -> str:
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    return "".join(rng.choices(alphabet, k=43)) + "="


def _slack_time(rng: random.Random) -> str:
    return f"{NOW_MS // 1000 - rng.randint(0, 90 * 86_400)}.{rng.randint(0, 999_999):06d}"


def _probe(rng: random.Random) -> Entry:
    return {
        "sessionId": _uuid(rng),
        "updatedAt": NOW_MS - rng.randint(0, 30 * DAY_MS),
        "systemSent": True,
        "abortedLastRun": rng.random() < 0.02,
        "chatType": "direct",
    }


def _sized(rng: random.Random, target: int) -> Entry:
    """Return an entry whose compact JSON has about `target` bytes: a core, and blobs that fill what is left."""
    made = _core(rng)
    left = target - _length(made)
    if left > 20_000:
        made["systemPromptReport"] = _report(rng, int(left * rng.uniform(0.3, 0.6)))
    left = target - _length(made)
    if left > 2_000:
        made["skillsSnapshot"] = _skills(rng, left - 22)
    elif left > 15:
        made["lastPrompt"] = _text(rng, left - 16)
    return made


def _core(rng: random.Random) -> Entry:
    """Return the fields that change from turn to turn, and those that say where the session belongs."""
    session, peer = _uuid(rng), f"telegram:-100{rng.randint(10**9, 10**10 - 1)}"
    provider, model, window = rng.choice(_MODELS)
    total, updated = rng.randint(2_000, window - 10_000), NOW_MS - rng.randint(0, 30 * DAY_MS)
    subject = rng.choice(_SUBJECTS)
    return {
        "sessionId": session,
        "updatedAt": updated,
        "sessionStartedAt": updated - rng.randint(1, 9) * DAY_MS,
        "sessionFile": f"/home/u/.openclaw/agents/main/sessions/{session}.jsonl",
        "systemSent": True,
        "abortedLastRun": False,
        "chatType": rng.choice(("group", "direct")),
        "thinkingLevel": rng.choice(("off", "low", "medium", "high")),
        "verboseLevel": "off",
        "modelProvider": provider,
        "model": model,
        "contextTokens": window,
        "inputTokens": rng.randint(1, 5_000),
        "outputTokens": rng.randint(1, 3_000),
        "totalTokens": total,
        "cacheRead": total - 500,
        "compactionCount": rng.randint(0, 4),
        "costUsd": round(rng.uniform(0.001, 9), 4),
        "subject": subject,
        "displayName": f"telegram:{subject}",
        "authProfileOverride": None,
        "origin": {"label": subject, "provider": "telegram", "from": peer, "to": peer, "threadId": rng.randint(1, 400)},
        "deliveryContext": {"channel": "telegram", "to": peer, "accountId": "default"},
        "lastChannel": "telegram",
        "lastTo": peer,
    }


def _skills(rng: random.Random, target: int) -> Entry:
    """Return a skillsSnapshot: a long prompt, and the skills it was made from."""
    count = min(40, target // 400)
    listed = [{"name": f"{rng.choice(_WORDS)}-{n:02d}", "primaryEnv": f"SKILL_{n:02d}_API_KEY"} for n in range(count)]
    made = {"prompt": "", "skills": listed, "version": NOW_MS}
    made["prompt"] = _text(rng, max(0, target - _length(made)))
    return made


def _report(rng: random.Random, target: int) -> Entry:
    """Return a systemPromptReport: one line a tool, with sizes and hashes."""
    made: Entry = {
        "source": "run",
        "generatedAt": NOW_MS - rng.randint(0, DAY_MS),
        "workspaceDir": "/home/u/.openclaw/workspace",
        "systemPrompt": {"chars": rng.randint(20_000, 60_000), "hash": f"{rng.getrandbits(256):064x}"},
        "injectedWorkspaceFiles": [
            _workspace_file(name, rng) for name in ("AGENTS", "SOUL", "TOOLS", "USER", "MEMORY")
        ],
        "tools": [],
    }
    each = _length(_tool(0, rng)) + 1
    made["tools"] = [_tool(n, rng) for n in range((target - _length(made)) // each)]
    return made


def _workspace_file(name: str, rng: random.Random) -> Entry:
    chars = rng.randint(100, 9_000)
    return {"name": f"{name}.md", "missing": False, "rawChars": chars, "injectedChars": chars, "truncated": False}


def _tool(number: int, rng: random.Random) -> Entry:
    return {
        "name": f"{rng.choice(_WORDS)}_{number:03d}",
        "summaryChars": rng.randint(40, 400),
        "schemaChars": rng.randint(100, 4_000),
        "schemaHash": f"{rng.getrandbits(256):064x}",
        "propertiesCount": rng.randint(1, 30),
    }


def _job(rng: random.Random, updated: int) -> Entry:
    """Return what a subagent or a cron run has beside: five of six are over."""
    ran = rng.randint(2_000, 900_000)
    if rng.random() < 1 / 6:
        return {"status": "running", "startedAt": updated - ran}
    over = rng.choice(("done", "done", "done", "failed"))
    return {"status": over, "startedAt": updated - ran, "endedAt": updated, "runtimeMs": ran}


def _text(rng: random.Random, length: int) -> str:
    """Return exactly `length` characters of plain words."""
    return " ".join(rng.choices(_WORDS, k=length // 4 + 1))[:length].ljust(length, ".")


def _length(value: Any) -> int:
    return len(json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode())


def write(store: dict[str, Entry], directory: Path) -> Path:
    """Write a store as DIRECTORY/sessions.json, indented by two as OpenClaw does; return the file's path."""
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / "sessions.json"
    path.write_text(json.dumps(store, ensure_ascii=False, indent=2), encoding="utf-8")
    return path


def main() -> None:
    """Write one of the populations."""
    parser = argparse.ArgumentParser(prog="python -m bench.openclaw", description="Write a made-up sessions.json.")
    parser.add_argument("name", choices=POPULATIONS)
    parser.add_argument("out", type=Path, help="a directory; made if need be")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    store = population(given.name, given.seed)
    path = write(store, given.out)
    print(f"{len(store):,} sessions, {path.stat().st_size:,} bytes: {path}")


if __name__ == "__main__":
    main()
