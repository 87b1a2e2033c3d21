"""The same session as each kind of model has it."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from typing import Any, Literal, TypedDict

import msgspec
import pydantic


class Status(Enum):
    NEW = "new"
    RUNNING = "running"


@dataclass
class Origin:
    channel: str = "cli"
    ids: list[int] = field(default_factory=list)


@dataclass
class Chat:
    status: Status = Status.NEW
    turns: int = 0
    mode: Literal["fast", "slow"] = "fast"
    origin: Origin = field(default_factory=Origin)
    parts: list[Origin] = field(default_factory=list)
    started: datetime | None = None
    limits: dict[str, float] = field(default_factory=dict)


@dataclass
class Message:
    role: Literal["user", "agent"]
    content: str


class OriginDict(TypedDict, total=False):
    channel: str
    ids: list[int]


class ChatDict(TypedDict, total=False):
    status: Status
    turns: int
    mode: Literal["fast", "slow"]
    origin: OriginDict
    parts: list[OriginDict]
    started: datetime | None
    limits: dict[str, float]


class MessageDict(TypedDict):
    role: Literal["user", "agent"]
    content: str


class OriginModel(pydantic.BaseModel):
    channel: str = "cli"
    ids: list[int] = []


class ChatModel(pydantic.BaseModel):
    status: Status = Status.NEW
    turns: int = pydantic.Field(default=0, strict=True)
    mode: Literal["fast", "slow"] = "fast"
    origin: OriginModel = pydantic.Field(default_factory=OriginModel)
    parts: list[OriginModel] = []
    started: datetime | None = None
    limits: dict[str, float] = {}


class MessageModel(pydantic.BaseModel):
    role: Literal["user", "agent"]
    content: str


class OriginStruct(msgspec.Struct):
    channel: str = "cli"
    ids: list[int] = []


class ChatStruct(msgspec.Struct):
    status: Status = Status.NEW
    turns: int = 0
    mode: Literal["fast", "slow"] = "fast"
    origin: OriginStruct = msgspec.field(default_factory=OriginStruct)
    parts: list[OriginStruct] = []
    started: datetime | None = None
    limits: dict[str, float] = {}


class MessageStruct(msgspec.Struct):
    role: Literal["user", "agent"]
    content: str


@dataclass(frozen=True)
class Kind:
    """One kind of model; `get` and `put` reach what it has, whether that is an attribute or a member."""

    name: str
    chat: Any
    origin: Any
    message: Any

    def get(self, value: Any, name: str) -> Any:
        return value[name] if isinstance(value, dict) else getattr(value, name)

    def put(self, value: Any, name: str, new: Any) -> None:
        if isinstance(value, dict):
            value[name] = new
        else:
            setattr(value, name, new)

    def add_one(self, value: Any) -> None:
        turns = value.get("turns", 0) if isinstance(value, dict) else value.turns
        self.put(value, "turns", turns + 1)


KINDS = [
    Kind("dataclass", Chat, Origin, Message),
    Kind("TypedDict", ChatDict, OriginDict, MessageDict),
    Kind("pydantic", ChatModel, OriginModel, MessageModel),
    Kind("msgspec", ChatStruct, OriginStruct, MessageStruct),
]
