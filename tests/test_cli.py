"""The command table, and what a person sees of a mistake."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

import pytest

from clickpath import __version__
from clickpath.cli import COMMANDS, EXTRAS, Command, CommandParser, main
from clickpath.errors import ClickpathError


def refuse(argv: Sequence[str]) -> int:
    raise ClickpathError(f"cannot do {argv[0]}")


def interrupt(argv: Sequence[str]) -> int:
    raise KeyboardInterrupt


def need_torch(argv: Sequence[str]) -> int:
    raise ModuleNotFoundError("No module named 'torch.nn'", name="torch.nn")


def need_nothing_known(argv: Sequence[str]) -> int:
    raise ModuleNotFoundError("No module named 'clickpaht'", name="clickpaht")


def count(argv: Sequence[str]) -> int:
    arguments = CommandParser(prog="clickpath count")
    arguments.add_argument("--to", type=int, required=True)
    print(arguments.parse_args(argv).to)
    return 0


TABLE = {
    function.__name__: Command(f"{__name__}:{function.__name__}", "")
    for function in (refuse, interrupt, need_torch, need_nothing_known, count)
}


def test_a_command_gets_the_arguments_after_its_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["count", "--to", "3"], TABLE) == 0
    assert capsys.readouterr().out == "3\n"


def test_an_unknown_command_is_one_sentence_with_the_closest_name(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["repaly"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == "clickpath: there is no command 'repaly'; did you mean replay?\n"


def test_a_wrong_argument_is_one_sentence_that_names_the_help(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["count", "--to", "many"], TABLE) == 2
    assert capsys.readouterr().err == (
        "clickpath: argument --to: invalid int value: 'many'; see clickpath count --help\n"
    )


def test_an_error_of_ours_is_its_message_and_its_exit_code(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["refuse", "it"], TABLE) == ClickpathError.exit_code == 1
    assert capsys.readouterr().err == "clickpath: cannot do it\n"


def test_a_missing_extra_is_one_sentence_that_names_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["need_torch"], TABLE) == 1
    assert capsys.readouterr().err == (
        "clickpath: need_torch needs torch.nn, which is not installed:"
        " pip install 'clickpath[train]'\n"
    )


def test_a_missing_module_of_ours_stays_an_exception() -> None:
    with pytest.raises(ModuleNotFoundError, match="clickpaht"):
        main(["need_nothing_known"], TABLE)


def test_an_interrupt_ends_with_the_shells_code_for_it() -> None:
    assert main(["interrupt"], TABLE) == 130


@pytest.mark.parametrize("argv", [[], ["--help"], ["-h"], ["help"]])
def test_help_lists_every_command(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(argv) == 0
    listed = {line.split()[0] for line in capsys.readouterr().out.splitlines() if line[:2] == "  "}
    assert listed == set(COMMANDS)


def test_version_is_the_packages_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"clickpath {__version__}\n"


def test_help_loads_no_program_and_no_library(repository: Path) -> None:
    listing = "import sys; from clickpath.cli import main; main(['--help']); print(*sys.modules)"
    modules = subprocess.run(
        [sys.executable, "-c", listing], cwd=repository, capture_output=True, text=True, check=True
    ).stdout.splitlines()[-1]
    loaded = {name.partition(".")[0] for name in modules.split()}
    assert not loaded & {*EXTRAS, "stream", "serving", "training", "pydantic", "msgpack", "yaml"}


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_its_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([name, "--help"])
    assert ended.value.code == 0
    assert f"usage: clickpath {name}" in capsys.readouterr().out


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_answers_an_unknown_option_with_one_sentence(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([name, "--no-such-option"]) == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    assert message.startswith("clickpath: ")


@pytest.mark.parametrize("module", EXTRAS)
def test_every_module_behind_an_extra_exists_under_that_name(module: str) -> None:
    import_module(module)
