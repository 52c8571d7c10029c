"""`m3 eval --fit-weights`: weights for the hybrid score, what they are worth, and where they are kept."""

from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape

from m3cli.options import plain_table
from m3core import InvalidInput, M3Encoder, evaluation

_WEIGHTS = "dense {:g}, sparse {:g}, multi-vector {:g}"


def fit(console: Console, model: str, encoder: M3Encoder, reports: Sequence[evaluation.Report]) -> None:
    """Fits weights on half of the queries, prints what they gain on the others, and stores them unless they lose.

    Args:
        console: to print to.
        model: what the user calls the model.
        encoder: it.
        reports: what it scored.
    """
    found = evaluation.fit_weights([report.candidates for report in reports], encoder.score_weights)
    console.print(f"weights found on {found.dev_queries} queries:  {_WEIGHTS.format(*found.weights)}", soft_wrap=True)
    console.print(f"the model's until now:  {_WEIGHTS.format(*found.before)}\n", soft_wrap=True)
    table = plain_table("nDCG@10 of the other queries", "before", "after", "gain", "95 %")
    for one in found.held_out:
        name = escape(f"{one.name} ({len(one.before)})")
        gains = one.after - one.before
        low, high = evaluation.bootstrap_interval(gains)
        means = (f"{values.mean():.3f}" for values in (one.before, one.after))
        table.add_row(name, *means, f"{gains.mean():+.3f}", f"{low:+.3f} to {high:+.3f}")
    if len(found.held_out) > 1:
        low, high = found.interval
        table.add_row("mean of the sets", "", "", f"{found.gain:+.3f}", f"{low:+.3f} to {high:+.3f}")
    console.print(table)
    console.print()
    console.print(_stored(model, found), markup=False, highlight=False, soft_wrap=True)


def _stored(model: str, found: evaluation.WeightFit) -> str:
    try:
        evaluation.own_directory(model)
    except InvalidInput as error:
        return f"not stored: {error}"
    if found.gain < 0:
        return "not stored: on the other queries they are worse than those that the model has"
    return f"stored in {evaluation.store_weights(model, found.weights)}"
