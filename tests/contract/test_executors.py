"""Every executor of the package keeps the executors' promises."""

from pso_attn.evaluate.executors import LocalExecutor, ProcessExecutor
from pso_attn.testing.executors import CPU, ExecutorContract, WorkerContract


class TestLocalExecutor(ExecutorContract):
    def make(self, trainer, workers, chunk_timeout_s=None):
        return LocalExecutor(trainer, CPU, workers)


class TestProcessExecutor(WorkerContract):
    def make(self, trainer, workers, chunk_timeout_s=None):
        return ProcessExecutor(trainer, CPU, workers, chunk_timeout_s)
