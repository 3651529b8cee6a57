"""Every problem, by name, and the choice of some of them."""

from collections.abc import Sequence

import coco
import conditional
import made_up
import tables
from problem import Problem

FAMILIES = (made_up, coco, tables, conditional)


def every_problem() -> list[Problem]:
    """Return every problem of every family, in their order."""
    return [problem for family in FAMILIES for problem in family.problems()]


def chosen(
    split: str | None, groups: Sequence[str] = (), parts: Sequence[str] = (), is_core: bool = True
) -> list[Problem]:
    """Return the problems of a half (None: both), of some groups, with a part of a name in theirs.

    is_core: each of COCO's functions in one dimension; otherwise in all three. Groups take turns,
    so that a run that is cut short has some of each.
    """
    found = [
        problem
        for problem in every_problem()
        if (split is None or problem.split == split)
        and (not groups or problem.group in groups)
        and (not parts or any(part in problem.name for part in parts))
        and (problem.is_core or not is_core)
    ]
    earlier: list[str] = []
    turns = {}
    for problem in found:
        turns[problem.name] = earlier.count(problem.group)
        earlier.append(problem.group)
    return sorted(found, key=lambda problem: turns[problem.name])
