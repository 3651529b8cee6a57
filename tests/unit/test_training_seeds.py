"""Which seed a training gets: common random numbers by default, one of its own without them."""

from dataclasses import replace

import pytest

from pso_attn.assembly import assemble
from pso_attn.config import configuration_from
from pso_attn.parts import Parts
from pso_attn.seeding import training_seed
from pso_attn.types import History, Outcome, Proposal, State, Trial

BUDGET = {"particles": 2, "generations": 2, "steps": 2, "seeds": 2}


def twice(common: bool) -> tuple[Parts, list[list[tuple[int, ...]]]]:
    """Plan the defaults for both particles of two generations; return every trial's seeds."""
    budget = {**BUDGET, "common_random_numbers": common}
    document = {"task": "digits", "search": {"heads": [1, 2]}, "budget": budget}
    parts = assemble(configuration_from(document, "here.toml"))
    evaluator, history, seeds = parts.evaluator(), History(parts.objectives), []
    for _ in range(2):
        proposal = Proposal(parts.space.starts[[0, 0]], (0, 1))
        generation = evaluator.plan(proposal, history)
        seeds.append([candidate.seeds for candidate in generation.candidates])
        trials = tuple(
            Trial(generation.number, c, Outcome(c.trial, State.FAIL, None, {}, {}, 0.0, 0.0))
            for c in generation.candidates
        )
        history = replace(history, generations=(*history.generations, trials))
    return parts, seeds


def test_the_kth_training_of_the_same_settings_has_the_kth_common_seed() -> None:
    parts, seeds = twice(common=True)
    run = parts.configuration.seed
    flat = [seed for generation in seeds for trial in generation for seed in trial]
    assert flat == [training_seed(run, k) for k in range(8)]


@pytest.mark.parametrize("generation", [0, 1])
def test_without_common_numbers_a_seed_is_that_of_generation_particle_and_training(
    generation: int,
) -> None:
    parts, seeds = twice(common=False)
    run = parts.configuration.seed
    assert seeds[generation] == [
        tuple(training_seed(run, generation, particle, r) for r in range(2))
        for particle in range(2)
    ]


def test_another_history_is_counted_from_its_beginning() -> None:
    parts, _ = twice(common=True)
    evaluator, run = parts.evaluator(), parts.configuration.seed
    proposal = Proposal(parts.space.starts[[0, 0]], (0, 1))

    def first(history: History) -> int:
        return evaluator.plan(proposal, history).candidates[0].seeds[0]

    planned = evaluator.plan(proposal, History(parts.objectives)).candidates
    generations = tuple(
        tuple(Trial(n, c, Outcome(c.trial, State.FAIL, None, {}, {}, 0.0, 0.0)) for c in planned)
        for n in range(3)
    )
    for count in (0, 2, 3, 1, 3):
        history = History(parts.objectives, generations[:count])
        assert first(history) == training_seed(run, 4 * count)
    other = History(parts.objectives, (generations[0][:1],))
    assert first(other) == training_seed(run, 2)
