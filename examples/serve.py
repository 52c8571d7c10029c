"""An embedding server: one encoder for all requests, which share its forward passes. Queries go before documents.

pip install m3-retrieval fastapi uvicorn
python examples/serve.py --model m3-mini                          # BAAI/bge-m3 without --model; --help for more

curl -s localhost:8000/queries --json '{"texts": ["谁来监督算法？"], "modes": ["dense"]}'
"""

import argparse
import asyncio
import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, Field

from m3core import M3Encoder, M3Error, M3Output, Mode
from m3core.hub import DEFAULT


class Texts(BaseModel):
    """What a client sends."""

    texts: list[str] = Field(max_length=1000)
    modes: list[Mode] | None = None


def make_app(**arguments: Any) -> FastAPI:
    """A server of the encoder that `M3Encoder(**arguments)` makes."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with M3Encoder(**arguments) as encoder:  # closed with the server
            encoder.warm_up()
            app.state.encoder = encoder
            yield

    app = FastAPI(title="m3-retrieval", lifespan=lifespan)

    @app.post("/queries")
    async def queries(sent: Texts) -> Response:
        return await asyncio.to_thread(as_json, await app.state.encoder.aencode_queries(sent.texts, modes=sent.modes))

    @app.post("/documents")
    async def documents(sent: Texts) -> Response:
        return await asyncio.to_thread(as_json, await app.state.encoder.aencode_documents(sent.texts, modes=sent.modes))

    @app.get("/health")
    async def health() -> dict[str, Any]:
        encoder: M3Encoder = app.state.encoder
        return {"model": encoder.fingerprint.model, "device": encoder.device, "modes": encoder.modes}

    @app.exception_handler(M3Error)
    async def named(request: Request, error: M3Error) -> JSONResponse:
        return JSONResponse({"error": str(error)}, status_code=422 if isinstance(error, ValueError) else 503)

    return app


def as_json(output: M3Output) -> Response:
    """By mode. Numbers of vectors are in base64, as the text of millions of them would take longer than the model."""
    found: dict[str, Any] = {}
    if output.dense is not None:
        found["dense"] = [encoded(vector) for vector in output.dense]
    if output.sparse is not None:
        found["sparse"] = [{"indices": v.indices.tolist(), "values": v.values.tolist()} for v in output.sparse]
    if output.multivector is not None:
        found["multivector"] = [{"rows": len(rows), "data": encoded(rows)} for rows in output.multivector]
    return Response(json.dumps(found), media_type="application/json")


def encoded(numbers: np.ndarray) -> str:
    """To read with `np.frombuffer(base64.b64decode(text), "<f4")`."""
    return base64.b64encode(numbers.astype("<f4").tobytes()).decode()


def main() -> None:
    """Serves until it is stopped."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=DEFAULT, help="hub id, directory, or m3-mini")
    parser.add_argument("--device", action="append", help="such as cuda:0; several times for several devices")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    options = parser.parse_args()
    device = options.device[0] if options.device and len(options.device) == 1 else options.device
    app = make_app(model=options.model, device=device)
    uvicorn.run(app, host=options.host, port=options.port, log_level="warning", limit_concurrency=1000)  # then 503


if __name__ == "__main__":
    main()
