"""Downloading behind a network that reaches a mirror only: the first endpoint is dead, and the second one delivers.

python examples/mirror_download.py                    # no network: a mirror on this machine serves the mini model
python examples/mirror_download.py --endpoint https://hf-mirror.com --model BAAI/bge-m3 --cache ./models      # 2.3 GB
"""

import argparse
import json
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from hashlib import sha256
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Thread

from m3core import M3Encoder
from m3core.hub import locate

NAME, COMMIT = "someone/m3-mini", "0" * 40
DEAD = "http://127.0.0.1:9"  # nobody listens there


class Mirror(SimpleHTTPRequestHandler):
    """What a download needs of the hub's protocol: a list of the files with their hashes, and each file."""

    def do_GET(self) -> None:
        """Answers /api/models/NAME and /NAME/resolve/COMMIT/FILE."""
        self.path = self.path.partition("?")[0].removeprefix(f"/{NAME}/resolve/{COMMIT}")
        print(f"  the mirror is asked for {self.path}")
        if self.path != f"/api/models/{NAME}":
            super().do_GET()
            return
        files = [described(path, Path(self.directory)) for path in Path(self.directory).rglob("*") if path.is_file()]
        listing = json.dumps({"id": NAME, "sha": COMMIT, "siblings": files}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(listing)))
        self.end_headers()
        self.wfile.write(listing)

    def log_message(self, *_: object) -> None:
        """Prints nothing more."""


def described(path: Path, folder: Path) -> dict[str, object]:
    """A file as the hub lists it. What arrives is compared with this hash before anything reads it."""
    size, digest = path.stat().st_size, sha256(path.read_bytes()).hexdigest()
    lfs = {"sha256": digest, "size": size, "pointerSize": 134}
    return {"rfilename": path.relative_to(folder).as_posix(), "size": size, "lfs": lfs}


@contextmanager
def local_mirror() -> Iterator[str]:
    """The address of a mirror on this machine, which is there meanwhile."""
    handler = partial(Mirror, directory=str(locate("m3-mini").directory))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def main() -> None:
    """Downloads a model, and loads it a second time from the cache alone."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--endpoint", help="the address of a real mirror, in place of one on this machine")
    parser.add_argument("--model", default=NAME, help="with --endpoint, the model to fetch from there")
    parser.add_argument("--cache", help="a directory to keep the files in; else they are gone in the end")
    options = parser.parse_args()
    logging.basicConfig(format="  %(message)s", stream=sys.stdout)
    logging.getLogger("m3core.hub").setLevel(logging.INFO)  # which endpoint failed and why, and what is fetched

    with TemporaryDirectory() as temporary:
        os.environ["HF_ASSETS_CACHE"] = temporary  # else it is remembered for ten minutes who did not answer
        cache = options.cache or temporary
        with nullcontext(options.endpoint) if options.endpoint else local_mirror() as endpoint:
            os.environ["M3_ENDPOINTS"] = f"{DEAD}, {endpoint}"  # in this order, and the public ones after them
            encoder = M3Encoder(options.model, cache_folder=cache)  # endpoint=… does for a single one
            print(f"loaded {encoder!r}")
        encoder = M3Encoder(options.model, cache_folder=cache, local_files_only=True)  # or HF_HUB_OFFLINE=1
        print(f"loaded from the cache, no endpoint asked: commit {encoder.fingerprint.revision}")


if __name__ == "__main__":
    main()
