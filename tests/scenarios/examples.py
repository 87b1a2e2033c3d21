"""What the lease and the rate limit of examples/ promise, for several processes."""

from __future__ import annotations

from pathlib import Path

from shardstore import Store
from tests.examples import workers
from tests.support.peer import peers


def a_lease_has_one_owner_at_a_time(root: Path) -> None:
    """No owner writes behind one that claimed the session later."""
    with peers(4) as crew:
        refused = crew.each(workers.own_by_turns, [(root, name, 1.5) for name in "abcd"])
    with Store(root) as store:
        entries = store.log(workers.KEY)
    tokens = [token for token, _ in entries]
    assert tokens == sorted(tokens)
    assert len({(token, name) for token, name in entries}) == len(set(tokens))
    assert len({name for _, name in entries}) > 1
    assert sum(refused) > 0, "nobody ever lost a lease: the test proves nothing"


def a_rate_limit_is_never_exceeded(root: Path) -> None:
    """Never more than 20 calls in any 0.3 seconds."""
    with peers(3) as crew:
        calls = crew.run(workers.hammer_limit, root, 1.5)
    made = sorted(one for some in calls for one in some)
    assert len(made) > 20, "the limit lets too few through"
    for first, later in zip(made, made[20:], strict=False):
        assert later - first > 0.3, "21 calls in 0.3 seconds"
