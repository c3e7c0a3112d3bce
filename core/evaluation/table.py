"""The comparison as Markdown: scores, cost, where the time goes, and how much faster."""

from collections.abc import Sequence

from ..benchmarks.report import Machine
from .summary import Cell, Interval

_AGENTS = ("memagent", "rememr1")


def as_markdown(cells: Sequence[Cell], command: str, machine: Machine) -> str:
    """Write every cell, the command and the machine above them."""
    head = (
        f"    {command}\n\n"
        f"Commit {machine.commit or 'unknown'}; {machine.cores} cores, {machine.device}, torch {machine.torch}, "
        f"{machine.dtype}. Means over questions, in brackets 95% bootstrap intervals. An empty or failed "
        "output scores 0.\n"
    )
    parts = [head]
    for data in dict.fromkeys(cell.data for cell in cells):
        of_data = [cell for cell in cells if cell.data == data]
        parts += [f"## {data}", _scores(of_data), "Cost of a question", _costs(of_data), "Seconds by stage"]
        parts += [_stages(of_data)]
        if ratios := _ratios(of_data):
            parts += ["Against the agents: their seconds and their peak memory over those of each system", ratios]
    return "\n\n".join(parts) + "\n"


def _scores(cells: Sequence[Cell]) -> str:
    rows = [
        [
            *_name(c),
            str(c.questions),
            str(c.failed),
            _percent(c.exact_match),
            _percent(c.f1),
            _percent(c.sub_exact_match),
            _percent(c.declined),
            _percent(c.source_precision),
            _percent(c.gold_read),
        ]
        for c in cells
    ]
    heads = ["n", "failed", "exact match", "F1", "sub-EM", "declined", "source precision", "gold read"]
    return _table(["documents", "tokens", "system", *heads], rows)


def _costs(cells: Sequence[Cell]) -> str:
    rows = [
        [
            *_name(c),
            _seconds(c.first_answer_seconds),
            _seconds(c.asking_seconds),
            f"{c.model_calls:,.1f}",
            f"{c.tokens_encoded:,.0f}",
            f"{c.tokens_read:,.0f}",
            f"{c.slots_read:,.0f}",
            f"{c.tokens_written:,.0f}",
            f"{c.peak_mib.mean:,.0f}",
            f"{c.added_mib.mean:,.0f}",
        ]
        for c in cells
    ]
    heads = ["first answer, s", "a further one, s", "calls", "tokens encoded", "tokens read", "slots read"]
    heads += ["tokens written", "peak MiB", "of it for the work"]
    return _table(["documents", "tokens", "system", *heads], rows)


def _stages(cells: Sequence[Cell]) -> str:
    stages = list(dict.fromkeys(stage for cell in cells for stage in cell.stage_seconds))
    rows = [
        [*_name(c), *(f"{c.stage_seconds[stage]:,.2f}" if stage in c.stage_seconds else "" for stage in stages)]
        for c in cells
    ]
    return _table(["documents", "tokens", "system", *stages], rows)


def _ratios(cells: Sequence[Cell]) -> str:
    agents = {(c.system, c.documents): c for c in cells if c.system in _AGENTS}
    known = [name for name in _AGENTS if any(name == system for system, _ in agents)]
    rows = []
    for cell in cells:
        against = [agents.get((name, cell.documents)) for name in known]
        if cell.system not in _AGENTS and any(against):
            rows.append([*_name(cell), *(text for agent in against for text in _over(agent, cell))])
    heads = [f"{name}: {what}" for name in known for what in ("first answer", "a further one", "peak memory")]
    return _table(["documents", "tokens", "system", *heads], rows) if rows else ""


def _over(agent: Cell | None, cell: Cell) -> list[str]:
    if agent is None:
        return ["", "", ""]
    pairs = (
        (agent.first_answer_seconds, cell.first_answer_seconds),
        (agent.first_answer_seconds, cell.asking_seconds),
        (agent.peak_mib, cell.peak_mib),
    )
    return [f"{theirs.mean / ours.mean:,.1f}" if ours.mean else "" for theirs, ours in pairs]


def _name(cell: Cell) -> list[str]:
    return [f"{cell.documents:,}", f"{cell.tokens:,.0f}", cell.system]


def _percent(interval: Interval | None) -> str:
    return f"{interval.mean:.1%} [{interval.low:.1%}, {interval.high:.1%}]" if interval else ""


def _seconds(interval: Interval) -> str:
    return f"{interval.mean:,.1f} [{interval.low:,.1f}, {interval.high:,.1f}]"


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    rule = ["---" if head == "system" else "---:" for head in heads]
    return "\n".join("| " + " | ".join(row) + " |" for row in (heads, rule, *rows))
