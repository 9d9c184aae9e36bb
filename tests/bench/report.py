"""Print measurements as tables and write them as JSON and as a chart."""

import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from xml.sax.saxutils import escape

UNITS = {
    "rate": "per second",
    "cpu": "µs CPU each",
    "memory": "KiB each",
    "p50": "ms p50",
    "p95": "ms p95",
    "p99": "ms p99",
    "busy": "% of the core",
}
COLOURS = {"service": "#4f46e5", "uwebsockets": "#94a3b8", "nchan": "#64748b", "tutorial": "#cbd5e1"}
Named = Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Measurement:
    """The values that the load generator printed for one run."""

    values: dict[str, float]

    def short(self) -> str:
        return ", ".join(f"{number(self.values[name])} {unit}" for name, unit in UNITS.items() if name in self.values)


def number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.2f}"


def write(folder: Path, works: Named, servers: Named, measured: Mapping[tuple[str, str], list[Measurement]]) -> None:
    """Print medians and ratios of each work; write them as JSON, and the deliveries per second as a chart."""
    medians = {
        key: {name: median(run.values[name] for run in runs) for name in runs[0].values}
        for key, runs in measured.items()
        if runs
    }
    for work, label in works:
        rows = [(name, medians[work, server]) for server, name in servers if (work, server) in medians]
        if not rows:
            continue
        columns = [name for name in UNITS if name in rows[0][1]]
        print(f"\n{label}")
        print(f"  {'':<22}" + "".join(f"{UNITS[name]:>16}" for name in columns) + f"{'rate, ratio':>16}")
        for name, values in rows:
            ratio = values["rate"] / rows[0][1]["rate"]
            print(f"  {name:<22}" + "".join(f"{number(values[c]):>16}" for c in columns) + f"{ratio:>16.2f}")
    folder.mkdir(parents=True, exist_ok=True)
    machine = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    results = [
        {"work": work, "server": server, "median": values, "runs": [run.values for run in measured[work, server]]}
        for (work, server), values in medians.items()
    ]
    (folder / "results.json").write_text(json.dumps({"machine": machine, "results": results}, indent=1) + "\n")
    charted = [(work, label) for work, label in works if any((work, server) in medians for server, _ in servers)]
    (folder / "results.svg").write_text(chart(charted[:4], servers, medians))
    print(f"\nWritten: {folder / 'results.json'} and {folder / 'results.svg'}")


def chart(works: Named, servers: Named, medians: Mapping[tuple[str, str], Mapping[str, float]]) -> str:
    """Return an SVG with the deliveries per second as horizontal bars, one group for each work."""
    width, bar, label_width, bar_width = 760, 18, 170, 480
    most = max((values["rate"] for (work, _), values in medians.items() if work in dict(works)), default=1)
    lines: list[str] = []
    y = 40
    for work, label in works:
        lines.append(f'<text x="0" y="{y}" font-weight="600">{escape(label)}</text>')
        y += 8
        for server, name in servers:
            if (work, server) not in medians:
                continue
            rate = medians[work, server]["rate"]
            length = max(1, round(bar_width * rate / most))
            middle = y + bar - 5
            lines.append(f'<text x="{label_width - 8}" y="{middle}" text-anchor="end">{escape(name)}</text>')
            colour = COLOURS.get(server, "#888")
            lines.append(
                f'<rect x="{label_width}" y="{y}" width="{length}" height="{bar - 4}" rx="2" fill="{colour}"/>'
            )
            lines.append(f'<text x="{label_width + length + 6}" y="{middle}">{rate:,.0f}</text>')
            y += bar
        y += 26
    title = "Deliveries per second on one core, 128-byte text"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {y}" font-family="system-ui, sans-serif" '
        f'font-size="12" fill="#334155" role="img" aria-label="{title}">\n'
        f'<rect width="{width}" height="{y}" fill="#fff"/>\n'
        f'<text x="0" y="16" font-size="14" font-weight="700">{title}</text>\n' + "\n".join(lines) + "\n</svg>\n"
    )
