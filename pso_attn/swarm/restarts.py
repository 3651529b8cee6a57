"""Which particles are drawn anew instead of being moved."""

import numpy as np

from pso_attn.swarm.state import Counts, Flags, SwarmState


def to_redraw(state: SwarmState, leaders: Counts, stagnation: int) -> Flags:
    """Return which particles the next generation redraws if it is their turn, (P,).

    A particle whose personal best did not improve in `stagnation` moves (0: never) gives it up,
    unless it is the best of its neighbourhood: the rule by which a bee abandons a source and
    becomes a scout (Karaboga & Basturk 2007, their `limit`). Besides, one that was evaluated and
    sees no personal best anywhere, its own included: nothing would move it.
    """
    own = np.arange(len(leaders))
    stagnated = (state.idle >= stagnation) & (leaders != own) & (stagnation > 0)
    adrift = ~state.has_best[leaders]
    return np.asarray(state.evaluated & (stagnated | adrift))
