"""Allowances: however workers spend, repeat and die, the sum never exceeds the caps, and what is unused comes back."""

import random
from dataclasses import dataclass

import pytest

from teacher_cache.crews.allowances import Allowances
from teacher_cache.format.commits import Spent

CAP, PRICE = 100, 0.25


@dataclass
class Worker:
    """Spends on its ledger up to its last allowance, as the spool enforces it."""

    ledger: str
    received: int = 0
    ceiling: float = 0


def test_what_a_worker_does_not_use_comes_back():
    allowances = Allowances(10, None, None)
    for name, ledger in ((1, "a"), (2, "b")):
        allowances.spent(name, ledger, (0, 0.0), 0, False)
    assert allowances.grant(1, 1, 8, 0, 2).calls >= 8
    assert allowances.grant(2, 1, 8, 0, 2).calls == 2, "the rest of the cap"
    allowances.spent(1, "a", (3, 0.0), 1, True)  # five rows were in the cache already
    assert allowances.grant(2, 2, 9, 0, 2).calls == 7
    allowances.spent(2, "b", (7, 0.0), 2, True)
    assert allowances.grant(1, 2, 1, 0, 2) is None


def test_a_dead_workers_allowance_counts_until_its_ledger_is_read_again():
    allowances = Allowances(10, None, None)
    for name, ledger in ((1, "a"), (2, "b")):
        allowances.spent(name, ledger, (0, 0.0), 0, False)
    assert allowances.grant(1, 1, 10, 0, 2).calls == 10
    allowances.lost(1)
    assert allowances.grant(2, 1, 1, 0, 2) is None
    allowances.spent(3, "a", (4, 0.0), 0, False)  # in its place
    assert allowances.grant(2, 1, 6, 0, 2).calls == 6


def test_what_a_workers_ledger_has_committed_counts_once():
    allowances = Allowances(10, None, None, [Spent("a", "teacher", 4, 0.0), Spent("a", "teacher", 6, 0.0)])
    allowances.spent(1, "a", (6, 0.0), 0, False)
    assert allowances.grant(1, 1, 9, 0, 1).calls == 10
    allowances.spent(2, "b", (0, 0.0), 0, False)
    allowances.spent(1, "a", (7, 0.0), 1, True)
    assert allowances.grant(2, 1, 9, 0, 1).calls == 3


def test_money_is_granted_like_calls():
    allowances = Allowances(None, 1.0, PRICE)
    allowances.spent(1, "a", (0, 0.0), 0, False)
    granted = allowances.grant(1, 1, 100, 0, 1)
    assert (granted.calls, granted.usd) == (None, 1.0)
    allowances.spent(1, "a", (3, 0.8), 1, True)
    assert allowances.grant(1, 2, 1, 0, 1) is None


@pytest.mark.parametrize("seed", range(20))
def test_spending_never_exceeds_the_caps_whoever_dies(seed):
    chance = random.Random(seed)
    allowances = Allowances(
        CAP, CAP * PRICE / 2 if seed % 2 else None, PRICE, [Spent("other", "teacher", 7, 7 * PRICE)]
    )
    cap = min(CAP, CAP // 2 if seed % 2 else CAP)
    ledgers = {ledger: 0 for ledger in "ab"}
    workers = {name: Worker(chance.choice("ab")) for name in range(4)}
    sent = {name: 0 for name in workers}
    pending = {name: [] for name in workers}  # allowances that are under way
    for name, worker in workers.items():
        allowances.spent(name, worker.ledger, (0, 0.0), 0, False)
    for step in range(400):
        name = chance.choice(list(workers))
        worker = workers[name]
        action = chance.random()
        if action < 0.3:
            waiting = chance.randint(0, 5)
            granted = allowances.grant(name, sent[name] + 1, chance.randint(1, 20), waiting, 4)
            if granted:
                sent[name] += 1
                pending[name].append(granted.calls if granted.usd is None else min(granted.calls, granted.usd / PRICE))
        elif action < 0.5 and pending[name]:
            worker.ceiling = pending[name].pop(0)
            worker.received += 1
        elif action < 0.8:
            for _ in range(chance.randint(0, 9)):
                if ledgers[worker.ledger] + 1 <= worker.ceiling + 1e-9:
                    ledgers[worker.ledger] += 1
        elif action < 0.97:
            is_idle = chance.random() < 0.3 and not pending[name]
            worker.ceiling = 0 if is_idle else worker.ceiling  # an idle one claims nothing before its next order
            calls = ledgers[worker.ledger]
            allowances.spent(name, worker.ledger, (calls, calls * PRICE), worker.received, is_idle)
        else:
            allowances.lost(name)
            del workers[name]
            new = 100 + step
            workers[new], sent[new], pending[new] = Worker(worker.ledger), 0, []
            calls = ledgers[worker.ledger]
            allowances.spent(new, worker.ledger, (calls, calls * PRICE), 0, False)
        assert sum(ledgers.values()) + 7 <= cap
    assert sum(ledgers.values()) + 7 > cap / 2, "the budget is used"
