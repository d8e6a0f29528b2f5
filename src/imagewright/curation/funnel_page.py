"""Renders the funnel as one self-contained HTML page: no script, no request, every outside text escaped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

STYLE = """
:root{--ink:#1c2430;--soft:#5c6878;--line:#e3e8ee;--card:#fff;--page:#f5f7fa;--accent:#3457d5;--bad:#d1495b;--ok:#2a9d6f}
@media(prefers-color-scheme:dark){:root{--ink:#e8edf4;--soft:#9aa7b8;--line:#2b3442;--card:#1a212c;--page:#11161e;--accent:#7f9cff;--bad:#f0788a;--ok:#5ccba0}}
*{box-sizing:border-box}body{margin:0;background:var(--page);color:var(--ink);font:15px/1.5 system-ui,-apple-system,"Segoe UI","Noto Sans","Noto Sans CJK SC",sans-serif}
main{max-width:1080px;margin:0 auto;padding:40px 24px 80px}h1{font-size:28px;margin:0 0 4px}h2{font-size:19px;margin:40px 0 12px}h3{font-size:14px;margin:0 0 10px}
p.lead{color:var(--soft);margin:0 0 24px}.cards{display:grid;grid-template-columns:repeat(auto-fit,minmax(150px,1fr));gap:12px}
.card,section.box{background:var(--card);border:1px solid var(--line);border-radius:12px;padding:16px}.card b{display:block;font-size:26px;font-variant-numeric:tabular-nums}.card span{color:var(--soft)}
table{width:100%;border-collapse:collapse;font-variant-numeric:tabular-nums}td,th{padding:6px 8px;text-align:left;border-bottom:1px solid var(--line);vertical-align:middle}
th{color:var(--soft);font-weight:500}tr:last-child td{border-bottom:0}td.n,th.n{text-align:right}td.w{width:38%}
.bar{position:relative;height:14px;border-radius:7px;background:var(--line);overflow:hidden}.bar i{position:absolute;inset:0 auto 0 0;background:var(--accent);border-radius:7px}.bar i.k{background:var(--ok)}
.pair{display:grid;gap:3px}.pair .bar{height:7px}.pair .bar i.t{background:var(--soft)}
.chip{display:inline-block;padding:1px 9px;margin:1px 4px 1px 0;border-radius:999px;background:color-mix(in srgb,var(--bad) 14%,transparent);color:var(--bad);font-size:13px}
.grid{display:flex;flex-wrap:wrap;gap:10px}.shot{width:112px;margin:0;font-size:11px;color:var(--soft);overflow-wrap:anywhere;line-height:1.35}
.shot img,.shot .none{width:112px;height:112px;object-fit:contain;border:1px solid var(--line);border-radius:8px;background:repeating-conic-gradient(#0000 0 25%,#8882 0 50%) 0 0/16px 16px;image-rendering:pixelated}
.shot .none{display:flex;align-items:center;justify-content:center}section.box{margin:0 0 14px}details summary{cursor:pointer;color:var(--accent)}
"""  # noqa: E501
MAX_CATEGORIES = 200


def render_page(funnel: Mapping[str, Any], shares: Sequence[Mapping[str, Any]]) -> str:
    """The whole page from the funnel's and the sampling histogram's plain values."""
    num_in, kept = funnel["num_in"], funnel["num_kept"]
    body = [
        "<h1>Curation funnel</h1>",
        f"<p class=lead>{kept:,} of {num_in:,} samples are kept; every other one has exactly one reason.</p>",
        cards(
            [
                ("in", num_in),
                ("kept", kept),
                ("dropped", num_in - kept),
                ("reasons", len(funnel["reasons"])),
                ("categories", len(funnel["categories"])),
            ]
        ),
        "<h2>Stages</h2>",
        steps_table(funnel["steps"], num_in),
        "<h2>Sources and splits</h2>",
        in_kept_table("source", funnel["sources"]),
        in_kept_table("split", funnel["splits"]),
        "<h2>Examples of every reason</h2>",
        *(example_box(reason, examples, funnel["reasons"]) for reason, examples in funnel["examples"].items() if reason),
        "<h2>Examples of what is kept</h2>",
        *(example_box("kept", examples, {"kept": kept}) for reason, examples in funnel["examples"].items() if not reason),
        "<h2>Category tree, before and after</h2>",
        category_tree(funnel["categories"]),
        "<h2>Sampling: target and realised share of each category</h2>",
        shares_table(shares),
    ]
    head = "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width,initial-scale=1'>"
    return f"{head}<title>Curation funnel</title><style>{STYLE}</style><main>{''.join(body)}</main></html>\n"


def cards(values: Sequence[tuple[str, int]]) -> str:
    """Headline numbers."""
    return (
        "<div class=cards>"
        + "".join(f"<div class=card><b>{value:,}</b><span>{escape(name)}</span></div>" for name, value in values)
        + "</div>"
    )


def bar(share: float, kind: str = "") -> str:
    """A bar of a share 0..1."""
    return f"<div class=bar><i class='{kind}' style='width:{100 * max(0.0, min(1.0, share)):.2f}%'></i></div>"


def pair(first: float, second: float, kind: str = "") -> str:
    """Two thin bars, one over the other."""
    return f"<div class=pair>{bar(first, 't')}{bar(second, kind)}</div>"


def steps_table(steps: Sequence[Mapping[str, Any]], num_in: int) -> str:
    """One row a stage: what went on, what was removed and why."""
    rows = []
    for step in steps:
        chips = "".join(f"<span class=chip>{escape(reason)} {count:,}</span>" for reason, count in step["reasons"].items())
        rows.append(
            f"<tr><td>{escape(step['stage'])}<td class=n>{step['num_in']:,}<td class=n>{step['num_out']:,}"
            f"<td class=w>{bar(step['num_out'] / max(1, num_in), 'k')}<td>{chips}"
        )
    head = "<tr><th>stage<th class=n>in<th class=n>out<th>left of the pool<th>removed"
    return f"<section class=box><table>{head}{''.join(rows)}</table></section>"


def in_kept_table(name: str, counts: Mapping[str, Sequence[int]]) -> str:
    """In and kept by one column."""
    rows = "".join(
        f"<tr><td>{escape(value or 'none')}<td class=n>{cell[0]:,}<td class=n>{cell[1]:,}<td class=w>{bar(cell[1] / max(1, cell[0]), 'k')}"
        for value, cell in counts.items()
    )
    return f"<section class=box><table><tr><th>{escape(name)}<th class=n>in<th class=n>kept<th>share kept{rows}</table></section>"


def example_box(reason: str, examples: Sequence[Mapping[str, str]], counts: Mapping[str, int]) -> str:
    """Pictures of one reason with their captions."""
    shots = []
    for example in examples:
        picture = f"<img alt='' src='{escape(example['picture'])}'>" if example["picture"] else "<div class=none>no picture</div>"
        note = f"<br><b>{escape(example['note'])}</b>" if example["note"] else ""
        shots.append(f"<figure class=shot>{picture}<figcaption>{escape(example['caption'])}{note}</figcaption></figure>")
    return f"<section class=box><h3>{escape(reason)} · {counts.get(reason, 0):,}</h3><div class=grid>{''.join(shots)}</div></section>"


def category_tree(categories: Mapping[str, Sequence[int]]) -> str:
    """Groups with their fine classes: samples before and after, largest group first."""
    groups: dict[str, list[tuple[str, Sequence[int]]]] = {}
    for name, cell in list(categories.items())[:MAX_CATEGORIES]:
        group, _, fine = name.partition("/")
        groups.setdefault(group, []).append((fine or group, cell))
    largest = max((cell[0] for cell in categories.values()), default=1)
    parts = []
    for group, members in sorted(groups.items(), key=lambda item: -sum(cell[0] for _, cell in item[1])):
        before, after = sum(cell[0] for _, cell in members), sum(cell[1] for _, cell in members)
        rows = "".join(
            f"<tr><td>{escape(fine)}<td class=n>{cell[0]:,}<td class=n>{cell[1]:,}"
            f"<td class=w>{pair(cell[0] / largest, cell[1] / largest, 'k')}"
            for fine, cell in members
        )
        head = "<tr><th>category<th class=n>before<th class=n>after<th>"
        summary = f"<summary><b>{escape(group)}</b> · {before:,} before, {after:,} after</summary>"
        parts.append(f"<section class=box><details open>{summary}<table>{head}{rows}</table></details></section>")
    return "".join(parts)


def shares_table(shares: Sequence[Mapping[str, Any]]) -> str:
    """Target and realised share by category."""
    largest = max((max(share["target"], share["realised"]) for share in shares), default=1.0)
    rows = "".join(
        f"<tr><td>{escape(share['category'])}<td class=n>{share['num_samples']:,}<td class=n>{share['natural']:.2%}"
        f"<td class=n>{share['target']:.2%}<td class=n>{share['realised']:.2%}"
        f"<td class=w>{pair(share['target'] / largest, share['realised'] / largest)}"
        for share in shares[:MAX_CATEGORIES]
    )
    head = "<tr><th>category<th class=n>samples<th class=n>natural<th class=n>target<th class=n>realised<th>target, realised"
    return f"<section class=box><table>{head}{rows}</table></section>"
