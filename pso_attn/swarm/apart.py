"""Workers of one study kept apart: what one of them trains, no other should train as well."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from optuna.trial import FrozenTrial

from pso_attn.space import Space
from pso_attn.swarm.draws import varied
from pso_attn.swarm.ledger import keys, modelled
from pso_attn.swarm.study_history import PROPOSED, ReadStudy
from pso_attn.swarm.study_space import StudySpace
from pso_attn.types import Array, Trial

CANDIDATES = 16  # places tried at each distance from the one that is taken


@dataclass(frozen=True, eq=False)
class Choice:
    """What a worker knew when it chose for one trial.

    earlier: trials before it, as they were then. read: the same, as the swarm was told of them.
    repair: a place as it would be trained, None where it could not be.
    """

    known: StudySpace
    number: int
    earlier: Sequence[FrozenTrial]
    read: ReadStudy
    repair: Callable[[Array], Array | None]

    def another(
        self, position: Array, trials: Sequence[FrozenTrial], rng: np.random.Generator
    ) -> Array | None:
        """Return where to go instead, (D,); None where the position is as good as any.

        It is where no trial stands that ran when this was chosen, or that the swarm was not told
        of because it came later or had not chosen yet. Else the place differs in one coordinate,
        or in more where all those tried are taken; in a space that is used up there is none.
        trials: all of the study by number, as they are now.
        """
        space = self.known.space
        ran = [self.earlier[generation].number for generation in self.read.unfinished]
        others = [*(trials[number] for number in ran), *trials[self.number + 1 :]]
        told = self.read.history.generations
        stood = [told[generation][0] for generation in self.read.unfinished]
        taken = _keys(space, _told(stood)) | _keys(space, self._chosen(others))
        if _keys(space, [position]).isdisjoint(taken):
            return None
        taken |= _keys(space, _told(self.read.history.trials))
        tried = np.tile(position, (CANDIDATES, 1))
        for _ in range(space.dimension):
            tried = varied(space, tried, rng)
            for place in tried:
                trained = self.repair(place)
                if trained is not None and _keys(space, [trained]).isdisjoint(taken):
                    return trained
        return None

    def _chosen(self, trials: Sequence[FrozenTrial]) -> list[Array]:
        """Return where those of the trials stand of which anything is known."""
        found = []
        for trial in trials:
            proposed = trial.system_attrs.get(PROPOSED, {})
            params = {**trial.system_attrs.get("fixed_params", {}), **trial.params}
            if any(name in params or name in proposed for name in self.known.space.names):
                found.append(self.known.position(params, proposed))
        return found


def _told(trials: Sequence[Trial]) -> list[Array]:
    return [trial.position for trial in trials]


def _keys(space: Space, positions: Sequence[Array]) -> set[bytes]:
    return set(keys(modelled(space, np.stack(positions)))) if positions else set()
