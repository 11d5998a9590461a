"""The command line: `unseen COMMAND ...`."""

from __future__ import annotations

import sys
from typing import Annotated

import tyro

from unseen.cli.data import Data
from unseen.cli.sample import Demo, Sample
from unseen.errors import UserError

Command = (
    Annotated[Sample, tyro.conf.subcommand("sample")]
    | Annotated[Demo, tyro.conf.subcommand("demo")]
    | Annotated[Data, tyro.conf.subcommand("data")]
)


def main() -> None:
    """Entry point. Bad input exits with 2 and one sentence, Ctrl-C with 130."""
    command = tyro.cli(
        Command,  # type: ignore[arg-type]
        prog="unseen",
        description="Sample the 3D scenes that an image could belong to.",
        config=(tyro.conf.OmitSubcommandPrefixes, tyro.conf.OmitArgPrefixes),
    )
    try:
        command.run()
    except UserError as error:
        print(f"unseen: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("unseen: interrupted", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
