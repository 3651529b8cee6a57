"""A run that this process holds: begun or taken up again, searched, written to, removed."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pso_attn.assembly import assemble
from pso_attn.checkpoints import save_best
from pso_attn.config import (
    Configuration,
    configuration_from,
    execution_from,
    located_storage,
)
from pso_attn.controls import hold_against
from pso_attn.errors import PsoAttnError, RunError
from pso_attn.imports import refuse_imports
from pso_attn.parts import Parts
from pso_attn.runs import GENERATIONS, LoadedRun, load_run, with_total
from pso_attn.search import Observer, Search, run_search
from pso_attn.store import (
    OptunaStore,
    RunFolder,
    check_new_study,
    delete_study,
    describe_environment,
    free_name,
    read_configuration,
)
from pso_attn.store.connection import database_of, redacted
from pso_attn.store.folder import checked_name, refuse_taken
from pso_attn.types import History, Sampler, Settings

if TYPE_CHECKING:  # what loads torch would slow down --help
    from pso_attn.evaluate.executors import Executor

TRAINING_THREADS = 1  # within an operation; tiles of a chunk train on several threads at once


@dataclass(frozen=True, eq=False)
class DrivenRun:
    """A run whose lock this process holds. executor: where its chunks train."""

    folder: RunFolder
    parts: Parts
    store: OptunaStore
    executor: "Executor"

    @property
    def name(self) -> str:
        """The run's name."""
        return self.folder.name

    @property
    def generations(self) -> int:
        """How many generations the run has when it is finished."""
        return self.parts.configuration.budget.generations

    @property
    def is_finished(self) -> bool:
        """Tell whether the budget of generations is spent."""
        return len(self.history()) >= self.generations

    def history(self) -> History:
        """Return every finished generation."""
        return self.store.history()

    def run(
        self,
        deadline_s: float,
        on_progress: Callable[[Any], None] | None = None,
        observer: Observer | None = None,
        on_forecast: Callable[[Any], None] | None = None,
        sampler: Sampler | None = None,
    ) -> History:
        """Search until the budget or the time is spent; deadline_s: on the monotonic clock.

        sampler: the run's own, where somebody watches over it.
        """
        return run_search(
            Search(self.parts.space, self.generations, deadline_s),
            sampler or self.parts.sampler(),
            self.parts.evaluator(
                on_progress,
                self._keep_best,
                on_forecast,
                self.folder.checkpoints,
                self.executor,
            ),
            self.store,
            [observer] if observer else [],
        )

    def hold_against(
        self, deadline_s: float, on_step: Callable[[int, int], None] | None = None
    ) -> dict[str, Any] | None:
        """Return what stands beside a finished search for weights; None for other searches.

        None too where the time was over before: it is made when the run is taken up again.
        """
        if self.parts.weights is None or not self.is_finished:
            return None
        return hold_against(self.parts, self.history(), self.folder, on_step, deadline_s)

    def again(self, command: str) -> str:
        """Return the shell command that does something with this run."""
        return self.folder.again(command)

    def _keep_best(self, outcome: Any, settings: Settings, weights: Any) -> None:
        save_best(self.folder.checkpoints, outcome.trial, settings, weights)


def prepare(
    configuration: Configuration,
    allow_import: bool = True,
    function: Callable[..., Any] | None = None,
) -> Parts:
    """Return the parts of a new search, on the device that its name stands for.

    Where a family has several ways to compute, the one that is quickest here is chosen for good.
    function: the objective of one's own, where it is at hand.
    """
    import torch

    from pso_attn.evaluate.ways import quickest_way

    if not allow_import:
        refuse_imports(configuration)  # before code of one's own is sent anywhere
    device = torch.device(_device(configuration))
    parts = assemble(replace(configuration, device=str(device)), allow_import, function)
    if parts.task is None or parts.factory is not None:
        return parts  # a model of one's own has one way
    named = {*configuration.model, *configuration.search}
    found = quickest_way(parts.space, named, parts.task, configuration.budget.batch, device)
    return parts.with_model(found) if found else parts


def _device(configuration: Configuration) -> str:
    """Return the device that a configuration's name stands for where its chunks train."""
    from pso_attn.evaluate.executors import device_for

    where = configuration.execution
    name, code = configuration.device, configuration.code_folder
    return device_for(name, where.executor, where.ray_address, code)


def new_name(configuration: Configuration, name: str | None, runs_dir: Path) -> str:
    """Return the name of a new run: the one given, or the first free one after the space's."""
    if name is not None:
        return checked_name(name)
    return free_name(runs_dir, Path(configuration.source).stem)


@contextmanager
def start_run(
    configuration: Configuration, name: str | None, runs_dir: Path, allow_import: bool = True
) -> Iterator[DrivenRun]:
    """Begin a run and hold it inside the block.

    Everything that can be wrong is found before anything is written. Without a name it is the
    first free one after the space's. Raises RunError for a name that is taken or leaves
    `runs_dir`, and whatever `assemble` raises.
    """
    chosen = new_name(configuration, name, runs_dir)  # one that cannot be is said at once
    if name is not None:
        refuse_taken(runs_dir / chosen)
    with begin_run(prepare(configuration, allow_import), name, runs_dir) as driven:
        yield driven


@contextmanager
def begin_run(parts: Parts, name: str | None, runs_dir: Path) -> Iterator[DrivenRun]:
    """Begin a run of parts that are prepared, and hold it inside the block.

    Without a name it is the first free one after the space's. Raises RunError for a name that is
    taken or leaves `runs_dir`.
    """
    with closing(parts.executor()) as executor:
        parts = _settled(parts, executor)
        configuration = parts.configuration
        document = configuration.document()
        folder = _new_folder(configuration, document, name, runs_dir)
        with OptunaStore.create(
            configuration.storage, folder, parts.space, parts.objectives, document
        ) as store:
            yield DrivenRun(folder, parts, store, executor)


@contextmanager
def resume_run(
    run: str,
    runs_dir: Path,
    generations: int | None = None,
    device: str | None = None,
    break_lock: bool = False,
    allow_import: bool = True,
    function: Callable[..., Any] | None = None,
    execution: Mapping[str, Any] | None = None,
) -> Iterator[DrivenRun]:
    """Take up a run where it was left and hold it inside the block.

    run: a name, a path, or URL#NAME for a run on a database that another machine began.
    generations: the total from now on; never less than what is done. device: for this
    invocation. function: the objective of one's own, where it is at hand. execution: where chunks
    train in this invocation, by the names of `config.Execution`; what is not given is as it was.
    Raises RunError where the run is in use, its data have changed, or the total is too small.
    """
    loaded = LoadedRun(_adopted(run, runs_dir)) if "://" in run else load_run(run, runs_dir)
    where = execution_from(execution or {}, "resume", loaded.started.execution)
    wanted = replace(loaded.started, device=device or loaded.started.device, execution=where)
    if not allow_import:
        refuse_imports(wanted)
    parts = loaded.assembled_on(_device(wanted), allow_import, function)
    parts = replace(parts, configuration=replace(parts.configuration, execution=where))
    with (
        closing(parts.executor()) as executor,
        OptunaStore.load(
            loaded.started.storage,
            loaded.folder,
            parts.space,
            parts.objectives,
            break_lock=break_lock,
        ) as store,
    ):
        if generations is not None:
            done = len(store.history())
            if generations < done:
                raise RunError(
                    f"run {loaded.name} has {done} generations already; --generations is the "
                    f"total, give at least {done}"
                )
            store.set_attribute(GENERATIONS, generations)
        total = with_total(parts.configuration, store.get_attribute(GENERATIONS))
        yield DrivenRun(loaded.folder, replace(parts, configuration=total), store, executor)


def _new_folder(
    configuration: Configuration, document: Mapping[str, Any], name: str | None, runs_dir: Path
) -> RunFolder:
    """Return a new run's folder; one that nobody named is the next where others were faster."""
    environment = describe_environment(configuration.device, TRAINING_THREADS)
    while True:
        chosen = new_name(configuration, name, runs_dir)
        if configuration.storage is not None and not (runs_dir / chosen).exists():
            check_new_study(configuration.storage, chosen)
        try:
            return RunFolder.create(runs_dir, chosen, document, environment)
        except RunError:
            if name is not None or not (runs_dir / chosen).exists():
                raise


def _settled(parts: Parts, executor: "Executor") -> Parts:
    """Return the parts with the number of processes that was chosen, which `resume` keeps to."""
    where = parts.configuration.execution
    if where.executor != "processes":
        return parts
    settled = replace(where, workers=executor.workers)
    return replace(parts, configuration=replace(parts.configuration, execution=settled))


def delete_run(loaded: LoadedRun) -> None:
    """Remove a run, its folder and its study; RunError while somebody drives it."""
    with loaded.folder.lock():
        pass  # in use or not, before anything is removed
    if loaded.started.storage is not None and not _is_shared(loaded):
        delete_study(loaded.started.storage, loaded.folder.study_name)
    loaded.folder.delete()


def _is_shared(loaded: LoadedRun) -> bool:
    """Tell whether another folder beside a run's is of the same study, as a copy of it is."""
    others = RunFolder.list(loaded.folder.path.parent)
    alike = [one for one in others if one.study_name == loaded.folder.study_name]
    mine = database_of(str(loaded.started.storage))
    for one in alike:
        with suppress(PsoAttnError):  # a damaged one is nobody's
            theirs = load_run(one.path).started.storage
            if one != loaded.folder and theirs is not None and database_of(theirs) == mine:
                return True
    return False


def _adopted(reference: str, runs_dir: Path) -> RunFolder:
    """Return the folder of URL#NAME in `runs_dir`, made from the study where it is missing."""
    url, mark, name = reference.rpartition("#")
    if not mark:
        raise RunError(f"{redacted(reference)} names no run; give URL#NAME")
    url = located_storage(url)
    if (runs_dir / checked_name(name)).exists():
        folder = RunFolder.open(name, runs_dir)
        there = load_run(folder.path).started.storage
        if there is None or database_of(there) != database_of(url) or folder.study_name != name:
            where = "its own journal" if there is None else redacted(there)
            raise RunError(
                f"run {name} in {runs_dir} is another one, {folder.study_name} in {where}; name a "
                f"folder for that of {redacted(url)} with --runs-dir"
            )
        return folder
    read = configuration_from(read_configuration(url, name), redacted(reference))
    return RunFolder.create(
        runs_dir,
        name,
        replace(read, storage=url).document(),
        describe_environment(read.device, TRAINING_THREADS),
    )
