"""The command line: `unseen COMMAND ...`."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import tyro

from unseen.cli.allocator import keep_freed_memory
from unseen.cli.data import Data
from unseen.cli.demo import Demo
from unseen.cli.distill import Distill
from unseen.cli.eval import Eval
from unseen.cli.eval_prior import EvalPrior
from unseen.cli.eval_table import EvalTable
from unseen.cli.export import Export
from unseen.cli.help_text import help_texts
from unseen.cli.import_weights import Import
from unseen.cli.models import Models
from unseen.cli.sample import Sample
from unseen.cli.train import Train, parse_train
from unseen.cli.view import View
from unseen.errors import UserError

Command = (
    Annotated[Sample, tyro.conf.subcommand("sample")]
    | Annotated[Demo, tyro.conf.subcommand("demo")]
    | Annotated[Distill, tyro.conf.subcommand("distill")]
    | Annotated[View, tyro.conf.subcommand("view")]
    | Annotated[Export, tyro.conf.subcommand("export")]
    | Annotated[Train, tyro.conf.subcommand("train")]
    | Annotated[Eval, tyro.conf.subcommand("eval")]
    | Annotated[EvalPrior, tyro.conf.subcommand("eval-prior")]
    | Annotated[EvalTable, tyro.conf.subcommand("eval-table")]
    | Annotated[Import, tyro.conf.subcommand("import")]
    | Annotated[Data, tyro.conf.subcommand("data")]
    | Annotated[Models, tyro.conf.subcommand("models")]
)


def parse(arguments: list[str]) -> Any:
    """The command that the arguments ask for; tyro ends the process on bad ones."""
    # The settings of a preset depend on its name, so `train` parses in two passes.
    if arguments[:1] == ["train"]:
        return parse_train(arguments[1:])
    # A table of evaluations reads best as a part of `eval`.
    if arguments[:2] == ["eval", "table"]:
        arguments = ["eval-table", *arguments[2:]]
    return tyro.cli(
        Command,  # type: ignore[arg-type]
        args=arguments,
        prog="unseen",
        description="Sample the 3D scenes that an image could belong to.",
        config=(tyro.conf.OmitSubcommandPrefixes, tyro.conf.OmitArgPrefixes),
        registry=help_texts(),
    )


def main() -> None:
    """Entry point. Bad input exits with 2 and one sentence, Ctrl-C with 130."""
    keep_freed_memory()
    try:
        parse(sys.argv[1:]).run()
    except UserError as error:
        print(f"unseen: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt as interrupt:
        # What can be resumed says how.
        print(
            f"unseen: {interrupt.args[0] if interrupt.args else 'interrupted'}",
            file=sys.stderr,
        )
        sys.exit(130)
    except RuntimeError as error:
        # torch, which it is a class of, may not be imported.
        if type(error).__name__ != "OutOfMemoryError":
            raise
        print(
            "unseen: the GPU's memory is full: use --device cpu, or fewer or smaller "
            f"pictures at once ({str(error).splitlines()[0]})",
            file=sys.stderr,
        )
        sys.exit(2)


if __name__ == "__main__":
    main()
