"""A chat with branches: go back to a message, go on from there, and keep both."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from shardstore import Store, join_key

if TYPE_CHECKING:
    from collections.abc import Iterator

    from shardstore import Session


def say(store: Store, chat: str, role: str, content: str) -> Session:
    """Add a message to a chat."""
    return store.append(chat, [{"role": role, "content": content}])


def branch(store: Store, chat: str, at: int, name: str) -> str:
    """Create a chat that begins with the first `at` messages of another one; return its key.

    One commit makes it whole, so nobody sees half of it. Its fields say where it comes from.
    """
    target = join_key(chat, name)
    store.copy(chat, target, stop=at)
    store.patch(target, {"parent": chat, "at": at})
    return target


def alternatives(store: Store, chat: str) -> list[str]:
    """Return the branches that began at this chat, in the order in which they were made."""
    return [info.key for info in store.list(where={"parent": chat}, order_by="created_at")]


def tree(store: Store, chat: str, depth: int = 0) -> Iterator[str]:
    """Yield a line for a chat and for each branch below it."""
    session = store[chat]
    start = session.get("at", 0)
    said: list[Any] = [message["content"] for message in session.log[start:]]
    yield f"{'  ' * depth}{chat} from {start}: {' / '.join(said)}"
    for one in alternatives(store, chat):
        yield from tree(store, one, depth + 1)


if __name__ == "__main__":
    with Store("sessions") as store:  # where there are many, reindex(["parent"]) makes `alternatives` quick
        store.delete_all("chat")
        say(store, "chat", "user", "Write a poem.")
        say(store, "chat", "agent", "Roses are red.")
        other = branch(store, "chat", at=1, name="second")
        say(store, other, "agent", "The sea is wide.")
        print("\n".join(tree(store, "chat")))
