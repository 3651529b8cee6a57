"""Which device trains, and how much memory a chunk may take there."""

import ctypes
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache, partial
from math import inf
from pathlib import Path

import psutil
import torch

from pso_attn.errors import DeviceError
from pso_attn.held import Held

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # glibc's malloc.h
_ALL_OF_MODE = -1  # MKL_CBWR_ALL of mkl_types.h
BUSY_SECONDS = 0.1  # over which other work is looked at
GROUPS = Path("/sys/fs/cgroup")
_LIMITS = {"": "memory.max", "memory": "memory.limit_in_bytes"}  # version 2, version 1
MEMORY_SHARE = 0.5  # of the device's whole memory, so that a resumed run plans the same chunks


def resolve_device(name: str) -> torch.device:
    """Return the device of "auto", "cpu", "cuda" or "cuda:i"; DeviceError if it is absent."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    kind, colon, index = name.partition(":")
    if kind not in ("cpu", "cuda") or (colon and not index.isdecimal()):
        raise DeviceError(f'device "{name}" is unknown; choose auto, cpu, cuda or cuda:0')
    if kind == "cpu":
        return torch.device("cpu")
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if count == 0:
        raise DeviceError(
            f"device {name} was asked for, but PyTorch sees no CUDA device here; "
            "use --device cpu, or install a CUDA build of PyTorch"
        )
    if index and int(index) >= count:
        there = "cuda:0 alone" if count == 1 else f"cuda:0 to cuda:{count - 1}"
        raise DeviceError(f"device {name} was asked for, but there is {there}; choose of those")
    return torch.device("cuda", int(index)) if index else torch.device("cuda")


def memory_budget_bytes(device: torch.device) -> int:
    """Return how many bytes one chunk may be estimated to need."""
    if device.type == "cuda":
        total: float = torch.cuda.get_device_properties(device).total_memory
    else:
        total = min(psutil.virtual_memory().total, group_limit_bytes())
    return int(total * MEMORY_SHARE)


def group_limit_bytes(process: Path = Path("/proc/self"), groups: Path = GROUPS) -> float:
    """Return the memory that a process's control groups allow it, on Linux; infinity without.

    Containers and batch systems set such limits, and a group's holds for all groups below it.
    process: its folder in /proc. groups: where both versions of groups are mounted.
    """
    limits = [inf]
    with suppress(OSError):
        lines = os.fsdecode((process / "cgroup").read_bytes()).split("\n")
        for line in filter(None, lines):  # a name may hold any byte but this one
            _, controllers, path = line.split(":", 2)
            if controllers not in _LIMITS:
                continue
            mount, name = groups / controllers, _LIMITS[controllers]
            own = mount / path.lstrip("/")  # absent in a container that is shown its own as "/"
            for folder in (own, *(one for one in own.parents if one.is_relative_to(mount))):
                with suppress(OSError, ValueError):  # "max" is none
                    limits.append(int((folder / name).read_text()))
    return min(limits)


@cache
def keep_freed_memory() -> None:
    """Let the C library keep what tensors free, once and for the process, where it is glibc.

    By default it gives blocks of a megabyte back at once, and each step faults them in again:
    5 to 15 % of a step at widths of 32 and above.
    """
    library = _glibc()
    if library is not None:
        library.mallopt(_MMAP_THRESHOLD, 2**30)
        library.mallopt(_TRIM_THRESHOLD, 2**31 - 1)


def give_freed_memory_back() -> None:
    """Let others have what the process has free after all: of GPUs, and of the host with glibc."""
    library = _glibc()
    if library is not None:
        library.malloc_trim(0)
    torch.cuda.empty_cache()  # does nothing where CUDA has not begun


def _glibc() -> ctypes.CDLL | None:
    library = ctypes.CDLL(None) if sys.platform == "linux" else None
    return library if hasattr(library, "gnu_get_libc_version") else None


def _as_many_threads_again() -> Callable[[], object]:
    """Return what gives PyTorch as many intra-op threads as it has now."""
    return partial(torch.set_num_threads, torch.get_num_threads())


_FEWER_THREADS = Held(_as_many_threads_again)


@contextmanager
def one_thread() -> Iterator[None]:
    """Run a block on one intra-op thread: at these sizes two are slower, and round differently.

    Blocks may nest, and run at once on several Python threads inside one that began before them.
    """
    with _FEWER_THREADS:
        torch.set_num_threads(1)  # also on a thread of Python that comes second
        yield


def cores() -> int:
    """Return how many cores this process may use."""
    process = psutil.Process()
    has = hasattr(process, "cpu_affinity")  # where the system can pin a process
    return len(process.cpu_affinity()) if has else psutil.cpu_count() or 1


def threads_of_each(workers: int) -> int:
    """Return on how many threads each of so many processes may train."""
    return max(1, cores() // workers)


def idle_threads(device: torch.device) -> int:
    """Return on how many threads tiles may train: idle cores, as many as PyTorch may use.

    PyTorch is told by OMP_NUM_THREADS or torch.set_num_threads. One on a GPU.
    """
    allowed = 1 if device.type == "cuda" else torch.get_num_threads()
    if allowed == 1:
        return 1
    began = time.process_time()
    busy = psutil.cpu_percent(interval=BUSY_SECONDS) / 100 * (psutil.cpu_count() or 1)
    busy -= (time.process_time() - began) / BUSY_SECONDS  # its own: BLAS threads spin for a while
    idle = cores() - round(busy)
    return max(1, min(allowed, idle))


@cache
def rounding() -> int:
    """Return in which mode MKL rounds, 0 without MKL: processes that agree round alike.

    `pso_attn` sets the mode when it is imported, which comes too late where PyTorch has multiplied
    before.
    """
    library = Path(torch.__file__).parent / "lib" / "libtorch_cpu.so"
    try:
        mode = ctypes.CDLL(str(library)).mkl_serv_cbwr_get
    except (OSError, AttributeError):
        return 0
    return int(mode(_ALL_OF_MODE))


def wait_for(device: torch.device) -> None:
    """Wait until a device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def check_usable(error: Exception) -> None:
    """Raise DeviceError where an error has cost this process a GPU on which it holds memory.

    After an assertion in a kernel, an illegal access and the like, CUDA refuses all that the
    process asks of it: what trains next would fail for no fault of its own.
    """
    if not torch.cuda.is_initialized():
        return
    for index in range(torch.cuda.device_count()):
        try:
            if torch.cuda.memory_reserved(index):  # to ask another would begin CUDA on it
                torch.cuda.synchronize(index)
        except RuntimeError as refusal:
            words = str(refusal).partition("\n")[0]
            raise DeviceError(
                f"cuda:{index} answers nothing in this process any more: {words}; mend the line "
                "that CUDA_LAUNCH_BLOCKING=1 shows, and resume in a new process"
            ) from error


def end_before_others() -> None:
    """Let Linux, where memory is short, end this process and not the one that waits for it."""
    with suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
        file.write("1000")


_NO_MEMORY = (
    "DefaultCPUAllocator",
    "CUDA error: out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUBLAS_STATUS_NOT_INITIALIZED",  # its handle takes memory of its own
    "CUDNN_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED",
    "CUDNN_STATUS_INTERNAL_ERROR_HOST_ALLOCATION_FAILED",
    "CUDNN_STATUS_NOT_INITIALIZED",  # as above
)


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether an allocation failed; who is not PyTorch's own allocator says so in words."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in _NO_MEMORY)
