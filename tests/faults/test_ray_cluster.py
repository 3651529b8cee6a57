"""A real Ray cluster of several nodes on this machine: its promises, and what goes wrong in it."""

import json
import logging
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch

from pso_attn import load_run
from pso_attn.errors import ConfigurationError, DeviceError
from pso_attn.evaluate import (
    TRAINING_KNOBS,
    ObjectiveTrainer,
    OwnObjective,
    SwarmEvaluator,
    SwarmTrainer,
)
from pso_attn.evaluate.executors import LocalExecutor
from pso_attn.evaluate.executors.speeds import MEASURED
from pso_attn.evaluate.jobs import Hear, Job, Trained
from pso_attn.models import MODEL_KNOBS
from pso_attn.space import read_space
from pso_attn.testing.executors import (
    BUDGET,
    CPU,
    LOSS,
    WorkerContract,
    asked,
    digits,
    events,
    fact,
    outcomes,
)
from pso_attn.types import Budget, Generation, History, Outcome, Proposal, State

try:
    import ray
    from ray.cluster_utils import Cluster
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    from pso_attn.evaluate.executors import ray_executor
    from pso_attn.evaluate.executors.ray_executor import RayExecutor
except ModuleNotFoundError:
    if os.environ.get("CI"):
        raise
    pytest.skip("needs the extra ray", allow_module_level=True)

pytestmark = [
    pytest.mark.ray,
    pytest.mark.filterwarnings("ignore::ResourceWarning"),  # Ray's own, of its processes and files
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
STORE_BYTES = 100 * 2**20
LIMIT_S = 240.0  # of a command, on a machine that is busy with others
FEW = Budget(particles=8, batch=8, generations=1, steps=12, rungs=(1.0,))
SPACE = """
task = "digits"
[model]
layers = 1
d_model = 16
[search]
heads = [1, 2, 4]
lr = { low = 1e-3, high = 1e-1, log = true }
[budget]
particles = 4
generations = 1000
steps = 60
"""


def node_of(settings: Any, trial: Any) -> float:
    """Leave the node's name, and take the seconds that the settings say, longer on some node."""
    node = ray.get_runtime_context().get_node_id()
    (trial.checkpoint_dir / node).touch()
    time.sleep(settings["seconds"] * (10 if node == settings.get("slow") else 1))
    return float(settings["x"])


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    made = head()
    made.add_node(num_cpus=1, object_store_memory=STORE_BYTES)
    ray.init(address=made.address, log_to_driver=False, logging_level=logging.CRITICAL)
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    yield made
    ray.shutdown()
    made.shutdown()


@pytest.fixture
def executor(cluster: Any) -> Iterator[Any]:
    with closing(RayExecutor(made_of(node_of), CPU)) as made:
        yield made


@pytest.fixture
def third(cluster: Any) -> Iterator[Callable[..., Any]]:
    """Return what adds a node, which is removed again."""
    added = []

    def add(**how: Any) -> Any:
        added.append(cluster.add_node(num_cpus=1, object_store_memory=STORE_BYTES, **how))
        return added[-1]

    yield add
    for node in added:
        if node in cluster.list_all_nodes():
            cluster.remove_node(node)
    until(lambda: ray.cluster_resources()["CPU"] == 2)


class TestRayExecutor(WorkerContract):
    @pytest.fixture(autouse=True)
    def _joined(self, cluster: Any) -> None:
        pass

    def make(self, trainer, workers, chunk_timeout_s=None):
        return RayExecutor(trainer, CPU, None, workers, chunk_timeout_s)


def test_a_node_that_is_removed_costs_no_chunk(
    cluster: Any, executor: Any, third: Callable[..., Any], tmp_path: Path
) -> None:
    node = third()
    until(lambda: executor.workers == 3)

    def remove() -> None:
        until(lambda: node.node_id in seen(tmp_path))
        cluster.remove_node(node, allow_graceful=False)

    remover = threading.Thread(target=remove)
    remover.start()
    found = asked_for([1.5] * 5, executor, tmp_path)
    remover.join()
    assert [one.state for one in found] == [State.COMPLETE] * 5
    until(lambda: executor.workers == 2)


def test_a_node_that_is_added_gets_chunks_of_the_generation_under_way(
    executor: Any, third: Callable[..., Any], tmp_path: Path
) -> None:
    generation, node = asked([{"x": 0.1, "seconds": 2.0}] * 8), None
    for event in events(made_of(node_of), executor, generation, tmp_path):
        assert isinstance(event, Outcome)
        assert event.state is State.COMPLETE
        node = node or third()
    assert node is not None
    assert node.node_id in seen(tmp_path)


def test_a_slow_node_holds_up_its_own_chunk_alone(
    cluster: Any, executor: Any, tmp_path: Path
) -> None:
    slow = cluster.head_node.node_id
    found = asked_for([0.4] * 7, executor, tmp_path, slow=slow)
    assert [one.state for one in found] == [State.COMPLETE] * 7
    assert len(seen(tmp_path)) == 7
    assert 1 <= seen(tmp_path).count(slow) <= 2


def test_a_chunk_that_is_late_on_a_slow_node_is_trained_on_another_as_well(
    cluster: Any, tmp_path: Path
) -> None:
    slow, quick = cluster.head_node.node_id, cluster.worker_nodes.copy().pop().node_id
    trainer = Paced(tmp_path, 1.0, slow, 60.0)
    with closing(RayExecutor(trainer, CPU)) as ours:
        (generation,) = generations(trainer, ours, 1)
        found = outcomes(trainer, ours, generation)
    plain = SwarmTrainer(digits(), LOSS, FEW, CPU)
    local = outcomes(plain, LocalExecutor(plain, CPU), generation)
    assert [fact(one) for one in found] == [fact(one) for one in local]
    began, ended = noted(tmp_path, "began"), noted(tmp_path, "ended")
    assert len(began[slow]) == 1
    assert set(began[slow]) <= set(began[quick])
    assert slow not in ended
    assert sum(began[quick]) == sum(ended[quick]) == FEW.batch


def test_a_quicker_node_is_given_more_once_it_is_measured(cluster: Any, tmp_path: Path) -> None:
    slow, quick = cluster.head_node.node_id, cluster.worker_nodes.copy().pop().node_id
    trainer = Paced(tmp_path, 0.4, slow, 3.0)
    with closing(RayExecutor(trainer, CPU)) as ours:
        *before, last = generations(trainer, ours, MEASURED + 1)
        for _ in events(trainer, ours, last):
            pass
    half = FEW.batch // 2
    assert all([len(chunk) for chunk in one.chunks] == [half, half] for one in before)
    large, small = (len(chunk) for chunk in last.chunks)
    began = noted(tmp_path, "began")
    assert large in (5, 6, 7)
    assert large in began[quick]
    assert small in began[slow]


def test_a_trainer_that_the_object_store_lost_is_sent_again(
    cluster: Any, executor: Any, third: Callable[..., Any], tmp_path: Path
) -> None:
    """Its one copy lies on a node that is removed; too large to be kept by its owner."""
    node, padded = third(), executor._load + bytes(10**6)
    until(lambda: ray.cluster_resources()["CPU"] == 3)
    there = NodeAffinitySchedulingStrategy(node.node_id, soft=False)
    made = ray.remote(lambda: bytes(padded)).options(max_retries=0, scheduling_strategy=there)
    executor._held = lost = made.remote()
    ray.wait([lost], fetch_local=False)
    cluster.remove_node(node, allow_graceful=False)
    until(lambda: ray.cluster_resources()["CPU"] == 2)
    found = asked_for([0.0] * 3, executor, tmp_path)
    assert [one.state for one in found] == [State.COMPLETE] * 3
    assert executor._held != lost


def test_a_gpu_that_no_node_has_is_refused(cluster: Any) -> None:
    with pytest.raises(
        DeviceError, match="no node of the Ray cluster has a GPU; use --device cpu"
    ):
        RayExecutor(made_of(node_of), torch.device("cuda"))


@pytest.mark.skipif(torch.cuda.is_available(), reason="PyTorch sees a CUDA device here")
def test_a_gpu_that_pytorch_does_not_see_is_refused(
    cluster: Any, third: Callable[..., Any]
) -> None:
    third(num_gpus=1)
    until(lambda: ray.cluster_resources().get("GPU") == 1)
    said = r"has a GPU for Ray, and its PyTorch, .*, sees no CUDA device; install a CUDA build"
    with pytest.raises(ConfigurationError, match=said):
        RayExecutor(made_of(node_of), torch.device("cuda"))


def test_each_chunk_is_given_a_gpu_of_its_own(
    cluster: Any, third: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray hands out GPUs that are not there, to a trainer that does not use them."""
    for _ in range(2):
        third(num_gpus=1)
    until(lambda: ray.cluster_resources().get("GPU") == 2)
    monkeypatch.setattr(ray_executor, "checked_nodes", lambda device: 2**30)
    trainer = Placed(tmp_path)
    with closing(RayExecutor(trainer, torch.device("cuda"))) as executor:
        assert executor.workers == 2
        (plan,) = generations(trainer, executor, 1)
        assert [len(chunk) for chunk in plan.chunks] == [4, 4]
        outcomes(trainer, executor, plan)
    given = [path.read_text() for path in tmp_path.iterdir()]
    assert len({line.split()[0] for line in given}) == 2  # nodes
    assert {line.split(maxsplit=1)[1] for line in given} == {"cuda 1"}


def test_a_node_with_other_packages_is_refused_with_both_versions(
    cluster: Any, third: Callable[..., Any], tmp_path: Path
) -> None:
    other = tmp_path / "numpy-1.0.dist-info"
    other.mkdir()
    (other / "METADATA").write_text("Metadata-Version: 2.1\nName: numpy\nVersion: 1.0\n")
    third(env_vars={"PYTHONPATH": str(tmp_path)})
    until(lambda: ray.cluster_resources()["CPU"] == 3)
    with pytest.raises(ConfigurationError, match=rf"has numpy 1\.0, .* has {numpy.__version__};"):
        RayExecutor(made_of(node_of), CPU)


def test_what_ray_cannot_pickle_is_named(cluster: Any) -> None:
    lock = threading.Lock()
    with pytest.raises(ConfigurationError, match=r"tests:f cannot be pickled.*lock"):
        RayExecutor(made_of(lambda settings, trial: float(lock.locked())), CPU)


def test_what_goes_wrong_in_a_cluster_is_not_printed_among_results(cluster: Any) -> None:
    """Ray itself prints on stdout what nodes and workers die of."""
    driver = """
import sys, time
from pso_attn.evaluate.executors import ray_cluster
ray_cluster.connect(sys.argv[1], None)
from ray._private import utils, worker
tell = lambda words: utils.publish_error_to_driver("own", words, worker.global_worker.gcs_client)
tell("a node has gone")
time.sleep(2)
print("the result")
ray_cluster.leave()
import ray
ray.init(sys.argv[1], logging_level="critical")
tell("in a session of one's own")
time.sleep(2)
"""
    python = [sys.executable, "-W", "ignore", "-c", driver, cluster.address]
    done = subprocess.run(python, capture_output=True, text=True, timeout=LIMIT_S, check=True)
    result, _, own = done.stdout.partition("\n")
    assert result == "the result"
    assert "in a session of one's own" in own
    assert "a node has gone" not in done.stderr + own


def test_a_search_whose_head_has_gone_stops_and_goes_on_on_another_cluster(
    cluster: Any, tmp_path: Path
) -> None:
    """With its storage at a URL, from another folder."""
    space, url = tmp_path / "space.toml", f"sqlite:///{tmp_path}/studies.db"
    space.write_text(SPACE)
    doomed = head()
    where = ["--executor", "ray", "--ray-address", doomed.address]
    search = command("search", str(space), "--run", "r", "--storage", url, *where, cwd=tmp_path)
    assert search.stderr is not None
    until(lambda: "generations" in search.stderr.readline())
    doomed.head_node.kill_all_processes(check_alive=False, allow_graceful=False)
    out, err = search.communicate(timeout=LIMIT_S)
    assert (search.returncode, out) == (1, ""), err
    assert f"the head of the Ray cluster, {doomed.address}, does not answer any more" in err
    assert "stopped; go on with: pso-attn resume r" in err
    assert "Traceback" not in err
    done = len(load_run("r", tmp_path / "runs").history)
    other = tmp_path / "elsewhere"
    other.mkdir()
    total = ["--generations", str(done + 2), "--json"]
    (other / "runs").mkdir()
    where = ["--executor", "ray", "--ray-address", cluster.address]
    resumed = command("resume", f"{url}#r", *where, *total, cwd=other)
    out, err = resumed.communicate(timeout=LIMIT_S)
    assert resumed.returncode == 0, err
    assert json.loads(out)["generations"]["done"] == done + 2
    numbers = [trial.number for trial in load_run("r", other / "runs").history.trials]
    assert numbers == list(range(4 * (done + 2)))


def test_an_address_that_does_not_answer_is_refused_within_fifteen_seconds(
    tmp_path: Path,
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        address = f"127.0.0.1:{deaf.getsockname()[1]}"
        where = ["--executor", "ray", "--ray-address", address]
        began_s = time.monotonic()
        search = command("search", "digits", *where, cwd=tmp_path)
        _, err = search.communicate(timeout=LIMIT_S)
    assert search.returncode == 2
    assert f"what listens at {address} does not answer as a Ray cluster within 9 s" in err
    assert time.monotonic() - began_s < 60
    nobody = command(
        "search", "digits", "--executor", "ray", "--ray-address", address, cwd=tmp_path
    )
    _, err = nobody.communicate(timeout=LIMIT_S)
    assert nobody.returncode == 2
    assert f"no Ray cluster answers at {address}" in err
    assert not (tmp_path / "runs").exists()


@pytest.mark.slow
def test_a_cluster_that_wants_a_token_is_told_from_one_that_is_none(tmp_path: Path) -> None:
    """`ray start` wants one where the person has one, and Ray gives none to an address unasked."""
    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "0123456789abcdef" * 2}
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    where = ["--executor", "ray", "--ray-address", f"127.0.0.1:{port}"]
    search = ["search", "digits", "--particles", "2", "--generations", "1", *where]
    search += ["--set", "budget.steps=2"]
    with started(port, token):
        without = command(*search, cwd=tmp_path)
        _, err = without.communicate(timeout=LIMIT_S)
        assert without.returncode == 2
        assert "and set RAY_AUTH_MODE=token where that says that token" in err
        wrong = command(*search, cwd=tmp_path, more={**token, "RAY_AUTH_TOKEN": "0" * 32})
        _, err = wrong.communicate(timeout=LIMIT_S)
        assert wrong.returncode == 2
        assert "and have its token: the same ~/.ray/auth_token" in err
        assert not (tmp_path / "runs").exists()
        given = command(*search, cwd=tmp_path, more=token)
        _, err = given.communicate(timeout=LIMIT_S)
        assert given.returncode == 0, err


@contextmanager
def started(port: int, more: Mapping[str, str]) -> Iterator[None]:
    """Run a head as a person starts one, apart from others of this machine, inside the block."""
    ray_command = str(Path(sys.executable).with_name("ray"))
    options = f"start --head --block --port {port} --num-cpus 1 --include-dashboard false"
    # a socket's path has room for 107 characters, fewer than a test's own folder takes
    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as place:
        process = subprocess.Popen(
            [ray_command, *options.split(), "--temp-dir", place],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, **more, "RAY_USAGE_STATS_ENABLED": "0"},
            start_new_session=True,
        )
        assert process.stdout is not None
        try:
            until(lambda: "Ray runtime started" in process.stdout.readline())
            yield
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()


def head() -> Any:
    """Return a cluster of one node, which notices soon where another has gone."""
    noticing = {"health_check_period_ms": 500, "health_check_failure_threshold": 3}
    own = {"num_cpus": 1, "object_store_memory": STORE_BYTES, "_system_config": noticing}
    return Cluster(initialize_head=True, head_node_args=own)


def made_of(function: Callable[..., Any]) -> ObjectiveTrainer:
    return ObjectiveTrainer(OwnObjective(function, "tests:f", False, CPU), LOSS, BUDGET)


class Paced(SwarmTrainer):
    """Trains, and takes so many seconds a particle, longer on some node."""

    def __init__(self, folder: Path, seconds: float, slow: str, factor: float) -> None:
        """folder: where it notes when it began and ended, where, and how many particles."""
        super().__init__(digits(), LOSS, FEW, CPU)
        self.folder, self.seconds, self.slow, self.factor = folder, seconds, slow, factor

    def on(self, device: torch.device) -> "Paced":
        return self

    def train(self, job: Job, hear: Hear) -> Trained:
        node = ray.get_runtime_context().get_node_id()
        what = f"{node} {len(job.candidates)} {job.generation} {job.candidates[0].trial}"
        (self.folder / f"began {what}").touch()
        trained = super().train(job, hear)
        longer = self.factor if node == self.slow else 1.0
        time.sleep(len(job.candidates) * self.seconds * longer)
        (self.folder / f"ended {what}").touch()
        return trained


class Placed(SwarmTrainer):
    """Trains on a CPU, and notes on which node, for which device and with how many GPUs."""

    def __init__(self, folder: Path, device: torch.device = CPU) -> None:
        super().__init__(digits(), LOSS, FEW, CPU)
        self.folder, self.meant = folder, device

    def on(self, device: torch.device) -> "Placed":
        return Placed(self.folder, device)

    def train(self, job: Job, hear: Hear) -> Trained:
        context = ray.get_runtime_context()
        gpus = context.get_accelerator_ids()["GPU"]
        note = self.folder / str(job.candidates[0].trial)
        note.write_text(f"{context.get_node_id()} {self.meant} {len(gpus)}")
        while len(list(self.folder.iterdir())) < 2:  # both at once
            time.sleep(0.05)
        return super().train(job, hear)


def noted(folder: Path, word: str) -> dict[str, list[int]]:
    """Return for each node how many particles it began or ended with, chunk by chunk."""
    found: dict[str, list[int]] = {}
    for path in folder.glob(f"{word} *"):
        _, node, particles, *_ = path.name.split()
        found.setdefault(node, []).append(int(particles))
    return found


def generations(trainer: SwarmTrainer, executor: Any, count: int) -> list[Generation]:
    """Return so many plans at random places, of which all but the last have been trained."""
    space = read_space({"lr": {}}, {"layers": 1, "d_model": 16}, {**MODEL_KNOBS, **TRAINING_KNOBS})
    evaluator = SwarmEvaluator(
        space, digits(), (LOSS,), FEW, 0, CPU, executor=executor, trainer=trainer
    )
    rng, plans = numpy.random.default_rng(5), list[Generation]()
    for _ in range(count):
        if plans:
            outcomes(trainer, executor, plans[-1])
        proposal = Proposal(rng.random((FEW.batch, space.dimension)), tuple(range(FEW.batch)))
        plans.append(evaluator.plan(proposal, History((LOSS,))))
    return plans


def asked_for(
    seconds: list[float], executor: Any, folder: Path, slow: str | None = None
) -> list[Outcome]:
    settings = [{"x": 0.1, "seconds": wait, "slow": slow} for wait in seconds]
    return outcomes(made_of(node_of), executor, asked(settings), folder)


def seen(folder: Path) -> list[str]:
    """Return the nodes that left their name in a trial's folder."""
    return [path.name for path in folder.glob("trial-*/seed-*/*")]


def until(holds: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + LIMIT_S
    while not holds():
        assert time.monotonic() < deadline_s
        time.sleep(0.1)


def command(
    *arguments: str, cwd: Path, more: Mapping[str, str] | None = None
) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "pso_attn", *arguments],
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "NO_COLOR": "1", **(more or {})},
    )
