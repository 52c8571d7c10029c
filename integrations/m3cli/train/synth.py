"""`m3 train synth`: synthetic questions about long documents."""

from collections import Counter
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from tqdm.auto import tqdm

from m3cli.train.chat import ChatModel
from m3cli.train.writing import check_target, write_line
from m3core import InvalidInput
from m3core.records import Record, read_objects, read_records
from m3core.train.making.synth import synthesize
from m3core.train.making.writing import bge_record


def synth(
    source: Annotated[Path, typer.Argument(help="Long documents: JSON lines with _id and text, or their folder.")],
    target: Annotated[Path, typer.Argument(help="A .jsonl file to write or to go on with, in BGE's format.")],
    llm: Annotated[
        str, typer.Option(help="A LangChain chat model: provider:model, or module:attribute, one of your own.")
    ],
    limit: Annotated[int | None, typer.Option(min=1, help="Ask about so many documents, drawn at random.")] = None,
    min_words: Annotated[int, typer.Option(help="Pass over shorter documents; a Chinese character is a word.")] = 500,
    tries: Annotated[int, typer.Option(help="Ask so often about a document, if an answer is of no use.")] = 3,
    batch: Annotated[int, typer.Option(help="Questions asked at once.")] = 16,
    seed: Annotated[int, typer.Option(help="Of the choice of documents and passages.")] = 0,
) -> None:
    """Have a language model ask about passages of long documents; each question goes with its whole document.

    Questions are added to the target as they come. Run again, it asks about those documents only that have none yet.
    """
    path = source / "corpus.jsonl" if source.is_dir() else source
    check_target(target, [path])
    documents = _documents(path)
    done = _done(target)
    todo = [document for document in _drawn(documents, limit, seed) if document.id not in done]
    chat = ChatModel(llm, concurrency=batch)
    problems: Counter[str] = Counter()
    made = 0
    outcomes = synthesize(todo, chat, min_words=min_words, tries=tries, batch=batch, seed=seed)
    with target.open("a", encoding="utf-8") as file:
        for outcome in tqdm(outcomes, total=len(todo), unit="text", disable=not Console(stderr=True).is_terminal):
            if outcome.example is None:
                problems[outcome.problem] += 1
                continue
            write_line(file, {"id": outcome.id, **bge_record(outcome.example)})
            file.flush()
            made += 1
    skipped = f"; {len(done)} were there before" if done else ""
    failed = ", ".join(f"{problem} {count}" for problem, count in problems.most_common())
    calls = f"; {chat.failures} calls failed, the last with {chat.last_error}" if chat.failures else ""
    Console().print(
        f"{len(todo)} documents, {made} questions → {target}{skipped}{f'; without: {failed}' if failed else ''}{calls}",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )


def _documents(path: Path) -> list[Record]:
    documents = list(read_records(path))
    if not documents:
        raise InvalidInput(f"{path} is empty")
    twice = [identifier for identifier, n in Counter(document.id for document in documents).items() if n > 1]
    if twice:
        raise InvalidInput(f"{path}: the _id {twice[0]!r} stands twice")
    return documents


def _drawn(documents: list[Record], limit: int | None, seed: int) -> list[Record]:
    """Some of the documents, in their order; the same for the same seed."""
    import random

    if limit is None or limit >= len(documents):
        return documents
    places = random.Random(seed).sample(range(len(documents)), limit)  # noqa: S311
    return [documents[place] for place in sorted(places)]


def _done(target: Path) -> set[str]:
    """The ids of the documents whose questions are there. A last line that was not written whole is cut off."""
    if not target.is_file():
        return set()
    with target.open("rb+") as file:
        content = file.read()
        file.truncate(content.rfind(b"\n") + 1)
    done = set()
    for where, record in read_objects(target):
        if not isinstance(record.get("id"), str):
            raise InvalidInput(f"{where}: has no id, so that m3 train synth did not write it; give another target")
        done.add(record["id"])
    return done
