#!/usr/bin/env python3
"""Tables and a plot of a comparison with other tools.

    compare.py RESULTS.json TABLES.md PLOT.svg

RESULTS.json has `results`, a list of one object per corpus, run, tool and step: `corpus`, `run`,
`tool`, `step`, `wall_s`, `rss_kib`, `repo_bytes`, `status`. Cells are medians over runs; the ratio
is the median over runs of vault divided by the peer with the best median of that row.
"""

import json
import statistics
import sys

ORDER = ["first", "unchanged", "changed1", "changed2", "restore", "check", "prune"]
CHANGES = {"changed1": "first", "changed2": "changed1"}
WIDTH, ROW, LEFT, SCALE = 760, 15, 150, 480


def main():
    source, tables, plot = sys.argv[1:]
    with open(source) as file:
        rows = [row for row in json.load(file)["results"] if row["status"] == "ok"]
    corpora = list(dict.fromkeys(row["corpus"] for row in rows))
    tools = [tool for tool in ["vault", "restic", "rustic", "borg"]
             if any(row["tool"] == tool for row in rows)]
    with open(tables, "w") as file:
        for corpus in corpora:
            own = [row for row in rows if row["corpus"] == corpus]
            file.write(table(corpus, own, tools))
    with open(plot, "w") as file:
        file.write(svg(rows, corpora, tools[1:]))


def runs_of(rows, tool, step, field):
    """Values of a field by run."""
    return {row["run"]: row[field] for row in rows if row["tool"] == tool and row["step"] == step}


def ratio(rows, peers, step, field):
    """vault divided by the best peer: (median of runs, peer)."""
    medians = {}
    for peer in peers:
        values = runs_of(rows, peer, step, field)
        if values:
            medians[peer] = statistics.median(values.values())
    ours = runs_of(rows, "vault", step, field)
    if not medians or not ours:
        return None
    best = min(medians, key=medians.get)
    theirs = runs_of(rows, best, step, field)
    both = [ours[run] / theirs[run] for run in ours if run in theirs and theirs[run]]
    return (statistics.median(both), best) if both else None


def added(rows, tool, step):
    """MiB that a step added to the repository, by run."""
    before, after = (runs_of(rows, tool, name, "repo_bytes") for name in (CHANGES[step], step))
    return [(after[run] - before[run]) / 2**20 for run in after if run in before]


def table(corpus, rows, tools):
    head = ["Step"]
    for what in ("Seconds", "MiB stored", "Peak MiB"):
        head += [f"{what}: {tool}" if tool == tools[0] else tool for tool in tools]
        if what != "Peak MiB":
            head.append("vault ÷ best")
    lines = [f"### {corpus}", "", "| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    steps = [step for step in ORDER if any(row["step"] == step for row in rows)]
    for step in steps:
        cells = [step]
        for field, unit, digits in (("wall_s", 1, 2), ("repo_bytes", 2**20, 1),
                                    ("rss_kib", 2**10, 0)):
            for tool in tools:
                values = runs_of(rows, tool, step, field).values()
                text = f"{statistics.median(values) / unit:.{digits}f}" if values else "–"
                cells.append(f"**{text}**" if tool == "vault" else text)
            if field != "rss_kib":
                found = ratio(rows, tools[1:], step, field)
                cells.append(f"**{found[0]:.2f}** {found[1]}" if found else "–")
        lines.append("| " + " | ".join(cells) + " |")
    for step in steps:
        if step in CHANGES:
            sums = [(tool, added(rows, tool, step)) for tool in tools]
            told = ", ".join(f"{tool} {statistics.median(s):.1f}" for tool, s in sums if s)
            lines += ["", f"Added by {step}, in MiB: {told}."]
    return "\n".join(lines) + "\n\n"


def svg(rows, corpora, peers):
    """Bars of vault divided by the best peer, in wall time; the line is 1."""
    bars, y = [], 30
    for corpus in corpora:
        own = [row for row in rows if row["corpus"] == corpus]
        bars.append(f'<text x="8" y="{y + 11}" font-weight="bold">{corpus}</text>')
        for step in ORDER:
            found = ratio(own, peers, step, "wall_s")
            if not found:
                continue
            value, best = found
            length = min(value, 1.2) * SCALE / 1.2
            bars.append(f'<text x="{LEFT - 6}" y="{y + 11}" text-anchor="end">{step}</text>')
            bars.append(f'<rect x="{LEFT}" y="{y + 2}" width="{length:.1f}" height="{ROW - 4}" '
                        f'fill="{"#2a7" if value < 1 else "#c52"}"/>')
            bars.append(f'<text x="{LEFT + length + 5:.1f}" y="{y + 11}">'
                        f'{value:.2f} of {best}</text>')
            y += ROW
        y += 8
    one = LEFT + SCALE / 1.2
    return (f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{y + 10}" '
            f'font-family="sans-serif" font-size="11" fill="#888">\n'
            f'<text x="8" y="16">wall time of vault divided by that of the best peer; '
            f'shorter is better</text>\n'
            f'<line x1="{one:.1f}" y1="22" x2="{one:.1f}" y2="{y}" stroke="#888" '
            f'stroke-dasharray="3 3"/>\n' + "\n".join(bars) + "\n</svg>\n")


if __name__ == "__main__":
    main()
