"""What ``nybble mlperf run`` and ``compare`` print."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from nybble.cli.output import plural, show_disturbance

if TYPE_CHECKING:
    from nybble.mlperf.accuracy import Comparison
    from nybble.mlperf.run import Outcome

#: Differences that are shown before the rest is only counted.
_SHOWN = 20


def show_outcome(name: str, scenario: str, outcome: Outcome) -> None:
    """Print what a run found, as text."""
    if outcome.performance is not None:
        show_disturbance(outcome.run["disturbance"])
    typer.echo(f"model       {name}")
    typer.echo(f"scenario    {scenario}")
    left_out = outcome.run["left_out"]
    typer.echo(f"photos      {outcome.run['photos']}" + f", {len(left_out)} left out" * bool(left_out))
    if outcome.accuracy is not None:
        typer.echo(f"accuracy    {outcome.accuracy}")
    result = outcome.performance
    if result is not None:
        from nybble.mlperf.result import number

        typer.echo(
            f"result      {result.figure:.2f} {result.unit}{' (early-stopping estimate)' * (result.unit == 'ms')}"
        )
        if scenario == "Server":
            bound = number(result.values, "effective_target_latency_ns") / 1e6
            typer.echo(f"            within {bound:g} ms" + ", the highest rate found" * bool(outcome.run.get("peak")))
        if scenario != "Offline":
            known = result.percentiles
            typer.echo("latency     " + ", ".join(f"p{p} {known[p]:.2f} ms" for p in ("50", "90", "99") if p in known))
        typer.echo(f"validity    {'VALID' if result.valid else 'INVALID'}")
        for reason in result.reasons:
            typer.echo(f"            {reason}")
    for reason in outcome.shortfalls:
        typer.echo(f"not a submission: {reason}")
    for folder in outcome.folders:
        typer.echo(f"logs        {folder}")


def outcome_json(outcome: Outcome, comparison: Comparison | None) -> dict[str, object]:
    """What a run found, for JSON."""
    from nybble.disturbance import warning

    result, share = outcome.performance, outcome.accuracy
    return {
        "warning": None if result is None else warning(outcome.run["disturbance"]),
        "run": outcome.run,
        "accuracy": None
        if share is None
        else {"accuracy": share.value, "right": share.right, "photos": share.total, "interval": share.interval},
        "performance": None
        if result is None
        else {
            "valid": result.valid,
            "figure": result.figure,
            "unit": result.unit,
            "reasons": result.reasons,
            "latency_ms": result.percentiles,
        },
        "comparison": None if comparison is None else comparison_json(comparison),
        "logs": [str(folder) for folder in outcome.folders],
    }


def comparison_json(comparison: Comparison) -> dict[str, object]:
    """How two sets of answers differ, for JSON."""
    return {
        "compared": comparison.compared,
        "differences": [one._asdict() for one in comparison.differences],
        "first_only": comparison.first_only,
        "second_only": comparison.second_only,
    }


def show_comparison(comparison: Comparison) -> None:
    """Print how two sets of answers differ, as text."""
    differences = comparison.differences
    typer.echo(f"compared    {plural(comparison.compared, 'photo')}")
    typer.echo(f"different   {len(differences)}")
    for one in differences[:_SHOWN]:
        typer.echo(f"            {one.photo}: {one.first} and {one.second}")
    if len(differences) > _SHOWN:
        typer.echo(f"            and {len(differences) - _SHOWN} more")
    for name, count in (("first", comparison.first_only), ("second", comparison.second_only)):
        if count:
            typer.echo(f"only in the {name}: {plural(count, 'photo')}")
