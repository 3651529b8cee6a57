"""The command line around its commands: start-up, errors, exit codes, signals."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from pso_attn.cli.app import app
from pso_attn.cli.guard import catch_signals, guarded
from pso_attn.cli.output import emit
from pso_attn.errors import ConfigurationError, StorageError

COMMANDS = typer.main.get_group(app).commands
SERVES = "dashboard"  # and prints nothing of its own
HEAVY = ("torch", "optuna", "pandas", "pyswarms", "matplotlib", "scipy", "sklearn", "numpy")


def run(command: object) -> tuple[int, str, str]:
    small = typer.Typer(pretty_exceptions_enable=False)
    small.command()(command)  # type: ignore[arg-type, type-var]  # any function without arguments
    result = CliRunner().invoke(small, [])
    return result.exit_code, result.stdout, result.stderr


def test_help_lists_every_command_and_loads_nothing_heavy() -> None:
    code = (
        "import sys; from pso_attn.cli import main\n"
        "sys.argv = ['pso-attn', '--help']\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        f"print([name for name in {HEAVY} if name in sys.modules])"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    *helped, loaded = said.stdout.splitlines()
    assert loaded == "[]"
    assert all(any(line.strip().startswith(name) for line in helped) for name in COMMANDS)


def test_importing_the_package_loads_nothing_heavy_and_still_offers_load_run() -> None:
    code = (
        "import sys, pso_attn\n"
        f"print([name for name in {HEAVY} if name in sys.modules])\n"
        "print(pso_attn.load_run.__name__)"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.splitlines() == ["[]", "load_run"]


def test_an_encoding_that_lacks_a_character_and_closed_streams_stop_nothing() -> None:
    program = [sys.executable, "-m", "pso_attn", "knobs"]
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    lines = subprocess.run(program, capture_output=True, text=True, check=True, env=environment)
    assert "1 ? 4" in lines.stdout
    plain = subprocess.run(
        [*program, "--json"], capture_output=True, text=True, check=True, env=environment
    )
    assert json.loads(plain.stdout)["schema"] == 1
    closed = subprocess.run(
        ["sh", "-c", '"$@" >&- 2>&-', "sh", *program], capture_output=True, check=False
    )
    assert closed.returncode == 0


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself_within_80_columns(command: str) -> None:
    result = CliRunner().invoke(app, [command, "--help"], env={"COLUMNS": "80"})
    assert result.exit_code == 0
    assert max(map(len, result.stdout.splitlines())) <= 80


@pytest.mark.parametrize("command", [name for name in COMMANDS if name != SERVES])
def test_every_command_that_prints_takes_json_and_quiet(command: str) -> None:
    flags = {flag for parameter in COMMANDS[command].params for flag in parameter.opts}
    assert {"--json", "--quiet"} <= flags


@pytest.mark.parametrize(
    ("error", "code"),
    [(ConfigurationError("a\nb"), 2), (StorageError("gone"), 1), (KeyboardInterrupt(), 130)],
)
def test_what_is_raised_becomes_one_line_and_an_exit_code(error: BaseException, code: int) -> None:
    @guarded
    def failing() -> None:
        raise error

    exit_code, out, err = run(failing)
    assert (exit_code, out) == (code, "")
    assert err.startswith(("error: a b\n", "error: gone\n", "error: interrupted\n"))
    assert err.count("\n") == 1


def test_what_nobody_foresaw_is_one_line_that_says_how_to_see_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    @guarded
    def failing() -> None:
        raise ZeroDivisionError("first\nsecond")

    monkeypatch.delenv("PSO_ATTN_TRACEBACK", raising=False)
    exit_code, _, err = run(failing)
    assert exit_code == 1
    assert err.startswith("error: ZeroDivisionError: first (unforeseen; set PSO_ATTN_TRACEBACK=1")
    monkeypatch.setenv("PSO_ATTN_TRACEBACK", "1")
    assert "Traceback" in run(failing)[2]


def test_an_exit_code_of_the_commands_own_is_kept() -> None:
    @guarded
    def leaving() -> None:
        raise typer.Exit(3)

    assert run(leaving)[0] == 3


def test_a_reader_that_has_enough_is_no_error() -> None:
    listing = subprocess.run(
        f"{sys.executable} -m pso_attn knobs | head -n 1; echo ${{PIPESTATUS[0]}}",
        shell=True,
        executable="/bin/bash",
        capture_output=True,
        text=True,
        check=True,
    )
    assert listing.stdout.splitlines()[-1] == "0"
    assert listing.stderr == ""


def test_three_signals_interrupt_and_an_ignored_hangup_stays_ignored() -> None:
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [signal.getsignal(number) for number in numbers]
    try:
        for number in numbers:
            catch_signals()
            with pytest.raises(KeyboardInterrupt):
                os.kill(os.getpid(), number)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        catch_signals()
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


def test_json_is_one_document_with_a_schema_and_no_numbers_that_json_lacks(
    capsys: pytest.CaptureFixture[str],
) -> None:
    emit({"a": float("nan"), "b": [float("inf"), 1.5]}, as_json=True, quiet=True)
    assert json.loads(capsys.readouterr().out) == {"schema": 1, "a": None, "b": [None, 1.5]}


def test_quiet_prints_the_essence_alone(capsys: pytest.CaptureFixture[str]) -> None:
    emit({}, as_json=False, quiet=True, lines=["much"], essence=["x", "y"])
    assert capsys.readouterr().out == "x\ny\n"


@pytest.mark.parametrize("command", ["spaces", "tasks", "knobs", "samplers"])
def test_what_there_is_is_listed_for_people_for_scripts_and_as_json(command: str) -> None:
    runner = CliRunner()
    names = runner.invoke(app, [command, "--quiet"]).stdout.split()
    document = json.loads(runner.invoke(app, [command, "--json"]).stdout)
    assert document["schema"] == 1
    listed = dict.fromkeys(entry["name"] for entry in document[command])
    assert list(listed) == names  # a knob of several families is one name
    shown = runner.invoke(app, [command], env={"COLUMNS": "80", "NO_COLOR": "1"}).stdout
    assert all(name in shown for name in names)
    assert max(map(len, shown.splitlines())) <= 80
    known = {"spaces": "digits", "tasks": "text", "knobs": "temperature", "samplers": "qmc"}
    assert known[command] in names


def test_every_space_says_what_it_searches() -> None:
    shown = CliRunner().invoke(app, ["spaces"], env={"COLUMNS": "200"}).stdout
    rows = {line.split()[0]: line for line in shown.splitlines() if line.strip()}
    assert "weights Wq, Wk, Wv, Wo" in rows["digits-weights"]
    for space in json.loads(CliRunner().invoke(app, ["spaces", "--json"]).stdout)["spaces"]:
        assert space["search"] or space["weights"]
        assert bool(space["weights"]) == ("weights" in rows[space["name"]].split(maxsplit=1)[1])


def test_an_empty_runs_folder_is_said_so(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["runs", "--runs-dir", str(tmp_path / "none")])
    assert (result.exit_code, result.stdout.startswith("no runs in")) == (0, True)


@pytest.mark.parametrize("arguments", [["serch"], ["search"], ["best", "a", "--bogus"]])
def test_usage_errors_exit_with_2(arguments: list[str]) -> None:
    assert CliRunner().invoke(app, arguments).exit_code == 2


def test_the_list_of_knobs_says_where_each_changes_nothing() -> None:
    listed = " ".join(CliRunner().invoke(app, ["knobs"]).stdout.split())
    for said in ("neutral at the number of heads", "neutral towards 1", "neutral 1 "):
        assert said in listed
