"""Prints the oldest versions of the frameworks that the package allows, as pip takes them."""

import re
import tomllib
from pathlib import Path

EXTRAS = ("langchain", "llama-index")


def main() -> None:
    project = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text("utf-8"))["project"]
    for extra in EXTRAS:
        for requirement in project["optional-dependencies"][extra]:
            name, oldest = re.fullmatch(r"([\w-]+)>=([\d.]+),<[\d.]+", requirement).groups()
            print(f"{name}=={oldest}")


if __name__ == "__main__":
    main()
