"""What the rows with enhancer say beside the rows without: how often it kept the prompt, and what it did to the judged score."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from imagewright.evaluation.results import ModelResult
from imagewright.evaluation.score_table import paired_suites


def enhancer_metrics(rows: Sequence[ModelResult]) -> dict[str, float]:
    """`eval/enhancer_<lineage>/...`: rates, and `gain` and `<suite>_gain`, enhanced less plain score on prompts both were asked."""
    metrics: dict[str, float] = {}
    plain = {row.lineage: row for row in rows if not row.enhancer}
    for row in rows:
        if not row.enhancer:
            continue
        prefix = f"eval/enhancer_{row.lineage}"
        metrics[f"{prefix}/fallbacks"] = row.enhancer_fallbacks
        metrics |= {f"{prefix}/{name}": value for name, value in row.enhancer_rates.items()}
        for suite, pair in (paired_suites(row, plain[row.lineage]) if row.lineage in plain else {}).items():
            name = f"{prefix}/{suite}_gain" if suite else f"{prefix}/gain"
            metrics |= {name: pair.difference.value, f"{name}_low": pair.difference.low, f"{name}_high": pair.difference.high}
    return metrics


def enhancer_note(rows: Sequence[ModelResult]) -> str:
    """One sentence on how often the enhancer kept the prompts; empty where no row has an enhancer. All rows share its expansions."""
    rates = next((row.enhancer_rates for row in rows if row.enhancer and row.enhancer_rates), None)
    if rates is None:
        return ""
    return (
        f"Of {rates['num_prompts']:.0f} prompts the enhancer's first answer keeps every constraint for {share(rates, 'pass_rate')}; "
        f"{share(rates, 'fallback_rate')} stand as they were."
    )


def share(rates: Mapping[str, float], name: str) -> str:
    """ "0.80 [0.58, 0.92]"."""
    return f"{rates[name]:.2f} [{rates[f'{name}_low']:.2f}, {rates[f'{name}_high']:.2f}]"
