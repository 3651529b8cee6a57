"""The report as files in a folder."""

from pathlib import Path

from pso_attn.report.findings import findings
from pso_attn.report.inputs import ReportInput


def build_report(run: ReportInput, folder: Path) -> Path:
    """Write index.html, the pictures and trials.csv into a folder; return the page's path.

    Each file appears whole or not at all, and the page last, so that whoever opens an earlier
    report meanwhile sees no half of a new one. Pictures of an earlier report that this one does
    not have are removed. Raises OSError where the folder cannot be written.
    """
    # pandas, matplotlib and optuna: commands that only print a number need none of them
    from pso_attn.report.frames import trials_frame
    from pso_attn.report.gallery import gallery
    from pso_attn.report.page import page
    from pso_attn.store.atomic import write_atomically

    found = findings(run)
    pictures = gallery(run, found)
    folder.mkdir(parents=True, exist_ok=True)
    trials = trials_frame(run.history).to_csv(index=False)
    write_atomically(folder / "trials.csv", trials.encode())
    for name, picture in pictures.items():
        path = folder / f"{name}.png"
        if picture.png is None:
            path.unlink(missing_ok=True)
        else:
            write_atomically(path, picture.png)
    write_atomically(folder / "index.html", page(run, found, pictures).encode())
    return folder / "index.html"
