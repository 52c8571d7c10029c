"""Trains a model in a process of its own, or in several under torchrun, of which the first one prints.

Arguments: one JSON object.
"""

import json
import os
import sys
from typing import Any

import torch

from m3core.train import FineTuner, RetroMAE

KINDS: dict[str, Any] = {"finetune": FineTuner, "retromae": RetroMAE}


def main() -> None:
    torch.set_num_threads(1)
    given: dict[str, Any] = json.loads(sys.argv[1])
    kind = KINDS[given.pop("kind")]
    trained = kind.from_pretrained(given.pop("model"), **given.pop("prepare")).run(**given, show_progress=False)
    if os.environ.get("RANK", "0") == "0":  # lines of several processes can run into each other
        print(json.dumps({"history": trained.history}))


if __name__ == "__main__":
    main()
