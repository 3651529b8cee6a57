"""The flags that several commands share, as types."""

from pathlib import Path
from typing import Annotated, Any

import typer

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
Quiet = Annotated[
    bool, typer.Option("--quiet", "-q", help="Print the bare essence, and no progress.")
]
RunsDir = Annotated[Path, typer.Option("--runs-dir", metavar="DIR", help="The folder of runs.")]
Run = Annotated[str, typer.Argument(metavar="RUN", help="A run's name, or its folder.")]
SpaceFile = Annotated[str, typer.Argument(metavar="SPACE", help="A built-in space, or a file.")]
Particles = Annotated[int | None, typer.Option(min=1, metavar="N", help="Size of the swarm.")]
Batch = Annotated[
    int | None, typer.Option(min=1, metavar="N", help="How many move and train at once.")
]
Sets = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Set a dotted key of the space file."),
]
NoImport = Annotated[
    bool, typer.Option("--no-import", help='Refuse every "module:Name", in file and flags.')
]
Device = Annotated[str | None, typer.Option(metavar="NAME", help="auto, cpu, cuda or cuda:INDEX.")]
Precision = Annotated[
    str | None, typer.Option(metavar="NAME", help="float32, tf32 (CUDA alone) or bf16.")
]
Timeout = Annotated[
    float | None,
    typer.Option(min=0, metavar="S", help="Stop at a chunk's end after this many seconds."),
]
Executor = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Where chunks train: local (in this process), processes, or ray (a cluster).",
    ),
]
Workers = Annotated[
    int | None,
    typer.Option(min=1, metavar="N", help="How many workers, for processes and ray."),
]
RayAddress = Annotated[
    str | None, typer.Option(metavar="HOST:PORT", help="The Ray cluster, for --executor ray.")
]
ChunkTimeout = Annotated[
    float | None,
    typer.Option(min=0, metavar="S", help="End a worker whose chunk takes longer, and try again."),
]
BreakLock = Annotated[
    bool, typer.Option("--break-lock", help="Take over a lock left by another host.")
]

RUNS = Path("runs")


def execution_flags(
    executor: str | None, workers: int | None, address: str | None, chunk_timeout_s: float | None
) -> dict[str, Any]:
    """Return the flags that say where chunks train, by their names in `config.FLAGS`."""
    return {
        "executor": executor,
        "workers": workers,
        "ray_address": address,
        "chunk_timeout_s": chunk_timeout_s,
    }
