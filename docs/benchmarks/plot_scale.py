#!/usr/bin/env python3
"""Draws scale.svg from scale.json, both beside this script; `--table` prints it as Markdown.

    python3 docs/benchmarks/plot_scale.py
"""

import json
import math
import sys
from pathlib import Path

HERE = Path(__file__).parent
WIDTH, HEIGHT = 1040, 900
PANEL_W, PANEL_H = 330, 310
COLOURS = ["#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#ff7f0e", "#17becf", "#8c564b"]

# Title, what is measured, its figure and unit, and the lines: phase and label.
PANELS = [
    ("Index: time", "index", "seconds", "s", [
        ("take_in", "take in all segments"), ("open", "open"),
        ("find", "1 M look-ups, there"), ("miss", "1 M look-ups, not there"),
        ("take_in_more", "open with 9 new segments"),
    ]),
    ("Index: most memory", "index", "peak_mib", "MiB", [
        ("take_in", "take in all segments"), ("open", "open"), ("find", "look-ups"),
    ]),
    ("Tree and backup: time", "tree", "seconds", "s", [
        ("build", "build"), ("backup_first", "first backup"),
        ("backup_same", "unchanged backup"), ("backup_1pct", "1 % changed backup"),
        ("list", "list"), ("find_1000", "find 1000 paths"),
    ]),
    ("Comparing two trees: time", "tree", "seconds", "s", [
        ("diff_1pct", "1 % differ, all over"), ("diff_1pct_near", "1 % differ, in one place"),
        ("diff_100", "100 differ, all over"), ("diff_same", "equal"),
    ]),
]


def points(rows, what, phase, figure):
    found = [(r["size"], r["phases"][phase][figure]) for r in rows if r["what"] == what]
    return sorted((size, max(value, 1e-5)) for size, value in found)


def number(value):
    for limit, unit in ((1e6, "M"), (1e3, "k")):
        if value >= limit:
            return f"{value / limit:g}{unit}"
    return f"{value:g}"


def decades(values):
    low = math.floor(math.log10(min(values)) + 1e-9)
    high = math.ceil(math.log10(max(values)) - 1e-9)
    return low, max(high, low + 1)


def panel(rows, at, title, what, figure, unit, lines):
    left, top = at
    drawn = [(label, points(rows, what, phase, figure)) for phase, label in lines]
    sizes = [size for _, line in drawn for size, _ in line]
    values = [value for _, line in drawn for _, value in line]
    if figure == "peak_mib":
        values.append(256)
    (x0, x1), (y0, y1) = decades(sizes), decades(values)
    x = lambda v: left + PANEL_W * (math.log10(v) - x0) / (x1 - x0)
    y = lambda v: top + PANEL_H * (1 - (math.log10(v) - y0) / (y1 - y0))
    out = [f'<text x="{left}" y="{top - 12}" class="title">{title}</text>']
    for power in range(x0, x1 + 1):
        at_x = x(10.0 ** power)
        out.append(f'<line x1="{at_x:.1f}" y1="{top}" x2="{at_x:.1f}" y2="{top + PANEL_H}" class="grid"/>')
        out.append(f'<text x="{at_x:.1f}" y="{top + PANEL_H + 16}" class="mid">{number(10.0 ** power)}</text>')
    for power in range(y0, y1 + 1):
        at_y = y(10.0 ** power)
        out.append(f'<line x1="{left}" y1="{at_y:.1f}" x2="{left + PANEL_W}" y2="{at_y:.1f}" class="grid"/>')
        out.append(f'<text x="{left - 6}" y="{at_y + 4:.1f}" class="end">{10.0 ** power:g} {unit}</text>')
    if figure == "peak_mib":
        out.append(f'<line x1="{left}" y1="{y(256):.1f}" x2="{left + PANEL_W}" y2="{y(256):.1f}" class="bound"/>')
        out.append(f'<text x="{left + 6}" y="{y(256) - 5:.1f}">bound: 256 MiB</text>')
    for place, (label, line) in enumerate(drawn):
        colour = COLOURS[place]
        path = " ".join(f"{x(size):.1f},{y(value):.1f}" for size, value in line)
        out.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        for size, value in line:
            out.append(f'<circle cx="{x(size):.1f}" cy="{y(value):.1f}" r="3" fill="{colour}"/>')
        key_x, key_y = left + (place % 2) * 165, top + PANEL_H + 38 + (place // 2) * 17
        out.append(f'<rect x="{key_x}" y="{key_y - 9}" width="10" height="10" fill="{colour}"/>')
        out.append(f'<text x="{key_x + 15}" y="{key_y}">{label}</text>')
    return out


def draw(rows):
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}"'
        f' viewBox="0 0 {WIDTH} {HEIGHT}">',
        "<style>text{font:12px sans-serif;fill:#222}.title{font-size:15px;font-weight:bold}"
        ".mid{text-anchor:middle}.end{text-anchor:end}.grid{stroke:#ddd}"
        ".bound{stroke:#222;stroke-dasharray:5 4}</style>",
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
    ]
    for place, spec in enumerate(PANELS):
        at = (110 + (place % 2) * 500, 50 + (place // 2) * 440)
        out += panel(rows, at, *spec)
    return "\n".join(out + ["</svg>", ""])


def table(rows):
    for what, head in (("index", "Chunks in the index"), ("tree", "Entries in the tree")):
        runs = sorted((r for r in rows if r["what"] == what), key=lambda r: r["size"])
        print(f"| {head}: | " + " | ".join(number(r["size"]) for r in runs) + " |")
        print("|---|" + "---|" * len(runs))
        for phase, label in ORDER[what]:
            cells = [r["phases"][phase] for r in runs]
            shown = (f"{c['seconds']:.3g} s, {c['peak_mib']} MiB" for c in cells)
            print(f"| {label} | " + " | ".join(shown) + " |")
        print()


ORDER = {
    "index": [
        ("take_in", "take in all segments"), ("open", "open"),
        ("find", "1 M look-ups, there"), ("miss", "1 M look-ups, not there"),
        ("merged_scan", "read everything, merged"), ("take_in_more", "open with 9 new segments"),
    ],
    "tree": [
        ("build", "build"), ("build_same", "build again, the same"),
        ("build_1pct", "build, 1 % changed all over"),
        ("build_1pct_near", "build, 1 % changed in one place"), ("list", "list"),
        ("find_1000", "find 1000 paths"), ("diff_same", "compare with the same"),
        ("diff_100", "compare, 100 differ"), ("diff_1pct_near", "compare, 1 % differ in one place"),
        ("diff_1pct", "compare, 1 % differ all over"), ("backup_first", "first backup"),
        ("backup_same", "unchanged backup"), ("backup_100", "backup, 100 changed"),
        ("backup_1pct", "backup, 1 % changed all over"),
    ],
}


if __name__ == "__main__":
    measured = json.loads((HERE / "scale.json").read_text())["scale"]
    if "--table" in sys.argv:
        table(measured)
    else:
        (HERE / "scale.svg").write_text(draw(measured))
