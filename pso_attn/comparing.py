"""Samplers held against each other: one ordinary run for each sampler and seed, in one folder.

A cell that is finished is kept and one that was interrupted is taken up again, so that the same
command goes on with a comparison; seeds are the outer loop, so that what is done is paired.
"""

import re
import shlex
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from math import inf
from pathlib import Path
from typing import Any

from pso_attn.assembly import assemble
from pso_attn.config import Configuration
from pso_attn.configured_space import naming
from pso_attn.driving import DrivenRun, begin_run, prepare, resume_run
from pso_attn.errors import ConfigurationError, NotBegunError, PsoAttnError, RunError
from pso_attn.imports import refuse_imports
from pso_attn.parts import Parts
from pso_attn.report.contest import Cell, Contest
from pso_attn.runs import load_run
from pso_attn.samplers import check_sampler, make_sampler
from pso_attn.store import OptunaStore, is_run
from pso_attn.store.connection import redacted
from pso_attn.store.folder import RunFolder, checked_name
from pso_attn.types import History, Proposal, Sampler

PROPOSING = "propose_seconds"  # study attribute, one a generation: PROPOSING:<generation>

Watch = Callable[[DrivenRun], AbstractContextManager[Mapping[str, Any]]]


@dataclass(frozen=True, eq=False)
class Comparison:
    """What is compared, checked. parts: data and space, which all cells share.

    notes: what a person should hear before anything trains.
    """

    folder: Path
    parts: Parts
    samplers: tuple[str, ...]
    seeds: tuple[int, ...]
    notes: tuple[str, ...]

    @property
    def size(self) -> int:
        """How many searches it takes."""
        return len(self.samplers) * len(self.seeds)

    def run_name(self, sampler: str, seed: int) -> str:
        """Return the name of a cell's run, inside the comparison's folder."""
        stem = Path(self.parts.configuration.source).stem
        plain = re.sub(r"[^\w.-]", "-", sampler)  # of module:Class
        return checked_name(f"{stem}-{plain}-seed{seed}")

    def configuration(self, sampler: str, seed: int) -> Configuration:
        """Return the configuration of a cell."""
        return _with_sampler(replace(self.parts.configuration, seed=seed), sampler)


def plan_comparison(
    configuration: Configuration,
    samplers: Sequence[str],
    seeds: int,
    runs_dir: Path,
    name: str | None = None,
    allow_import: bool = True,
) -> Comparison:
    """Return a comparison of samplers over the seeds from the configuration's on.

    [swarm] goes to the sampler that the space file names; the others run as they come. name: of
    the folder in `runs_dir`, by default the space's with -compare behind it.
    Raises ConfigurationError for a sampler that is none or is named twice, and RunError where
    the folder holds runs of another space or budget; nothing is written.
    """
    if not samplers:
        raise ConfigurationError("--samplers is empty; name some, such as pso,tpe,random")
    twice = [one for place, one in enumerate(samplers) if one in samplers[:place]]
    if twice:
        raise ConfigurationError(f"--samplers names {twice[0]} twice; keep one of them")
    made = []
    for sampler in samplers:
        candidate = _with_sampler(configuration, sampler)
        if not allow_import:
            refuse_imports(candidate)
        made.append(make_sampler(candidate))
    folder = runs_dir / checked_name(name or f"{Path(configuration.source).stem}-compare")
    configuration = _begun_way(configuration, folder)
    parts = prepare(_with_sampler(configuration, samplers[0]), allow_import)
    shared = replace(parts.configuration, sampler=configuration.sampler, swarm=configuration.swarm)
    parts = replace(parts, configuration=shared)
    with naming(configuration.source):
        for one in made[1:]:  # the first was checked with the space
            check_sampler(one, parts.space)
    if parts.weights is not None:  # not every sampler moves them
        for sampler in samplers[1:]:
            assemble(_with_sampler(shared, sampler))
    others = [sampler for sampler in samplers if sampler != configuration.sampler]
    notes = list(parts.space.notes)
    if configuration.swarm and others:
        notes.append(f"[swarm] is {configuration.sampler}'s alone; {', '.join(others)} without it")
    if is_run(folder):
        raise RunError(f"{folder} is a run, not a comparison; choose another name with --run")
    planned = Comparison(
        folder,
        parts,
        tuple(samplers),
        tuple(range(configuration.seed, configuration.seed + seeds)),
        tuple(notes),
    )
    for seed in planned.seeds:
        for sampler in planned.samplers:
            _refuse_other(planned, sampler, seed)
    return planned


def run_comparison(planned: Comparison, watch: Watch, command: str) -> Contest:
    """Search every cell that is not finished, and return them all.

    watch: a context of a run that yields what `DrivenRun.run` is told beside its deadline; no
    cell is watched that is finished already. command: what makes the comparison again.
    """
    cells = []
    for seed in planned.seeds:
        for sampler in planned.samplers:
            run = planned.run_name(sampler, seed)
            finished = _finished(planned, run)
            if finished is None:
                with _held(planned, sampler, seed) as driven:
                    timed = TimedSampler(driven.parts.sampler(), driven.store)
                    with watch(driven) as told:
                        driven.run(inf, **told, sampler=timed)
                    finished = _read(driven.store, driven.history(), planned)
            cells.append(Cell(sampler, seed, run, *finished))
    shared = planned.parts.configuration.shown()
    shared["run"] = {k: v for k, v in shared["run"].items() if k not in ("sampler", "seed")}
    return Contest(
        name=planned.folder.name,
        objective=planned.parts.objectives[0],
        samplers=planned.samplers,
        seeds=planned.seeds,
        cells=tuple(cells),
        configuration=shared,
        command=shlex.join(redacted(word) for word in shlex.split(command)),
    )


class TimedSampler:
    """A sampler whose `propose` is timed; each generation's seconds stand in the run's study."""

    def __init__(self, sampler: Sampler, store: OptunaStore) -> None:
        """Time this sampler, and write to that store."""
        self._sampler, self._store = sampler, store

    def propose(self, space: Any, history: History) -> Proposal:
        """Return what the sampler proposes."""
        began_s = time.perf_counter()
        proposal = self._sampler.propose(space, history)
        spent_s = time.perf_counter() - began_s
        self._store.set_attribute(f"{PROPOSING}:{len(history)}", spent_s)
        return proposal


def _begun_way(configuration: Configuration, folder: Path) -> Configuration:
    """Return the configuration with the way to compute that the folder's runs began with.

    Which is the quickest may come out otherwise when it is measured again.
    """
    from pso_attn.models import FAMILIES

    family = FAMILIES.get(configuration.family)
    way = family.ways.name if family is not None and family.ways is not None else None
    if way is None or way in {*configuration.model, *configuration.search}:
        return configuration
    for run in RunFolder.list(folder):
        with suppress(PsoAttnError):
            began = load_run(run.path).started
            if way in began.model and Path(began.source).stem == Path(configuration.source).stem:
                chosen = {way: began.model[way]}
                return replace(configuration, model={**configuration.model, **chosen})
    return configuration


def _with_sampler(configuration: Configuration, sampler: str) -> Configuration:
    options = configuration.swarm if sampler == configuration.sampler else {}
    return replace(configuration, sampler=sampler, swarm=options)


@contextmanager
def _held(planned: Comparison, sampler: str, seed: int) -> Iterator[DrivenRun]:
    """Begin a cell's run or take it up again, and hold it inside the block."""
    name, wanted = planned.run_name(sampler, seed), planned.configuration(sampler, seed)
    with ExitStack() as stack:
        if is_run(planned.folder / name):
            where = asdict(wanted.execution)
            yield stack.enter_context(resume_run(name, planned.folder, execution=where))
        else:
            parts = replace(planned.parts, configuration=wanted)
            if parts.weights is not None:  # where weights begin is drawn by the run's own seed
                parts = assemble(wanted)
            yield stack.enter_context(begin_run(parts, name, planned.folder))


def _finished(planned: Comparison, run: str) -> tuple[History, float | None] | None:
    """Return a finished cell's history and proposing time, None where there is more to do."""
    if not is_run(planned.folder / run):
        return None
    loaded = load_run(run, planned.folder)
    try:
        with loaded.store as store:
            history = store.history()
            if len(history) < planned.parts.configuration.budget.generations:
                return None
            return _read(store, history, planned)
    except NotBegunError:
        return None


def _read(
    store: OptunaStore, history: History, planned: Comparison
) -> tuple[History, float | None]:
    """Return as many generations as planned, for a run may have been resumed beyond them."""
    generations = planned.parts.configuration.budget.generations
    spent = [store.get_attribute(f"{PROPOSING}:{number}") for number in range(generations)]
    seconds = None if None in spent else float(sum(spent))
    return history.truncated(generations), seconds


def _refuse_other(planned: Comparison, sampler: str, seed: int) -> None:
    """Raise RunError where a cell was begun with another space, budget, data or device.

    Where chunks train counts as well: it decides whom a particle is compared with at a rung.
    """
    name = planned.run_name(sampler, seed)
    if not is_run(planned.folder / name):
        return
    began = _flat(load_run(name, planned.folder).started.document())
    wanted = _flat(planned.configuration(sampler, seed).document())
    free = {"run.source", "run.ray_address", "run.chunk_timeout_s"}
    if "run.workers" not in wanted:
        free.add("run.workers")  # as many as there was room for
    for key in (*wanted, *began):
        if key not in free and began.get(key) != wanted.get(key):
            then, now = (redacted(str(one.get(key, "absent"))) for one in (began, wanted))
            raise RunError(
                f"{planned.folder} was begun with {key} = {then}, and now it is {now}; compare "
                "under another name with --run, or give what it was begun with"
            )


def _flat(document: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in document.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat
