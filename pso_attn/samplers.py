"""The samplers by name, and the one that a configuration asks for."""

from collections.abc import Mapping
from types import MappingProxyType

from pso_attn.config import Configuration
from pso_attn.errors import ConfigurationError, nearest
from pso_attn.imports import call, load_function
from pso_attn.space import Space
from pso_attn.types import Sampler

SAMPLERS: Mapping[str, str] = MappingProxyType(
    {
        "pso": "pso_attn.swarm:ScreenedSwarm",
        "pso-classic": "pso_attn.swarm:ClassicSwarm",
        "pso-spso2011": "pso_attn.swarm:Spso2011Swarm",
        "pso-bare-bones": "pso_attn.swarm:BareBonesSwarm",
        "pso-clpso": "pso_attn.swarm:ClpsoSwarm",
        "pso-competitive": "pso_attn.swarm:CompetitiveSwarm",
        "pso-social": "pso_attn.swarm:SocialSwarm",
        "pso-consensus": "pso_attn.swarm:ConsensusSwarm",
        "pso-covariance": "pso_attn.swarm:SeparableSwarm",
        "tpe": "pso_attn.baselines:TreeParzen",
        "gp": "pso_attn.baselines:GaussianProcess",
        "cmaes": "pso_attn.baselines:CovarianceAdaptation",
        "openes": "pso_attn.baselines:OpenStrategy",
        "sepcmaes": "pso_attn.baselines:SeparableCovarianceAdaptation",
        "nsga2": "pso_attn.baselines:Genetic",
        "pyswarms": "pso_attn.baselines:PySwarms",
        "random": "pso_attn.baselines:RandomSearch",
        "qmc": "pso_attn.baselines:QuasiMonteCarlo",
    }
)


# where each particle is a model that goes on from where it was, and no draw of a distribution
OF_THEIR_OWN = MappingProxyType({"hybrid": "pso-consensus", "checkpoints": "pso-classic"})


def check_sampler(sampler: Sampler, space: Space) -> None:
    """Refuse, by ConfigurationError, a sampler that cannot search that space.

    It says so itself where it has a method check_space(space).
    """
    check = getattr(sampler, "check_space", None)
    if check is not None:
        check(space)


def make_sampler(configuration: Configuration) -> Sampler:
    """Return the sampler, a name in `SAMPLERS` or "module:Class".

    It gets the original budget of generations, so that a longer resume changes no schedule.
    """
    name, weights = configuration.sampler, configuration.weight_table
    if name == "pso" and weights is not None:
        name = OF_THEIR_OWN.get(weights.mode, name)
    if ":" not in name and name not in SAMPLERS:
        raise ConfigurationError(f'"{name}" is not a sampler{nearest(name, SAMPLERS)}')
    made = load_function(SAMPLERS.get(name, name), "sampler", configuration.code)
    arguments = {
        "seed": configuration.seed,
        "particles": configuration.budget.particles,
        "batch": configuration.budget.batch,
        "generations": configuration.planned_generations,
        "options": dict(configuration.swarm),
    }
    sampler = call(made, name, arguments)
    if not callable(getattr(sampler, "propose", None)):
        raise ConfigurationError(f"sampler {name} has no method propose(space, history)")
    return sampler  # type: ignore[no-any-return]  # checked above, as far as a protocol can be
