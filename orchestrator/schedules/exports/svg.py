"""A timeline as a picture (SVG): one row a rank, boxes as long as they take, numbered.

Forwards are blue, backwards orange, their input parts lighter and their weight parts green;
overlapped pairs lie one above the other. Later chunks of a rank are darker. Grey is idle.
"""

from collections.abc import Iterator
from html import escape

from orchestrator.errors import UsageError
from orchestrator.schedules.actions import Action, ActionKind
from orchestrator.schedules.simulate import Timeline
from orchestrator.units import text_of_seconds

MAX_BOXES = 20_000
"""More boxes than this make a file that viewers open slowly or not at all."""

_ROW = 26
_LABEL = 58
_TOP = 30
_SMALLEST_BOX = 14
_LONGEST = 4000
_NS = 1e-9
_FONT = "font-family='sans-serif' font-size='11'"
_COLOURS = {
    ActionKind.FORWARD: ("#9ecae1", "#4a90c4"),
    ActionKind.BACKWARD: ("#fdae6b", "#e6762b"),
    ActionKind.INPUT_GRAD: ("#fdd0a2", "#f0a05a"),
    ActionKind.WEIGHT_GRAD: ("#a1d99b", "#4fa866"),
}
_WORDS = {
    ActionKind.FORWARD: "forward",
    ActionKind.BACKWARD: "backward",
    ActionKind.INPUT_GRAD: "input gradient",
    ActionKind.WEIGHT_GRAD: "weight gradient",
}


def text_of(timeline: Timeline) -> str:
    """Return the picture of a timeline as an SVG document.

    Raises:
        UsageError: it has more than `MAX_BOXES` steps.
    """
    schedule = timeline.schedule
    if schedule.num_actions > MAX_BOXES:
        raise UsageError(
            problem=f"a picture of {schedule.num_actions:,} steps is more than {MAX_BOXES:,}",
            instead="fewer microbatches show the same pattern; or --trace, which Perfetto opens",
        )
    drawing = _Drawing(timeline)
    return "\n".join(("".join(drawing.head()), *drawing.boxes(), "</svg>", ""))


class _Drawing:
    def __init__(self, timeline: Timeline) -> None:
        self.timeline, self.schedule = timeline, timeline.schedule
        self.makespan_ns = max(1, timeline.makespan_ns)
        longest = max(len(codes) for codes in self.schedule.codes)
        self.width = min(_LONGEST, max(600, 2 * _SMALLEST_BOX * longest))
        self.kinds = [
            kind
            for kind in ActionKind
            if any(one.kind is kind for step in self.schedule.order(0) for one in step.actions)
        ]

    def head(self) -> Iterator[str]:
        height = _TOP + _ROW * self.schedule.pp + 6
        whole = self.width + _LABEL + 10
        took = text_of_seconds(self.timeline.makespan_ns * _NS)
        later = "; darker: later chunks" if self.schedule.vpp > 1 else ""
        title = (
            f"{self.schedule.kind}, pp {self.schedule.pp}, vpp {self.schedule.vpp}, "
            f"{self.schedule.num_microbatches} microbatches, {took}{later}"
        )
        yield (
            f"<svg xmlns='http://www.w3.org/2000/svg' width='{whole}' height='{height}' "
            f"viewBox='0 0 {whole} {height}'><title>{escape(title)}</title>"
            f"<rect width='{whole}' height='{height}' fill='white'/>\n"
        )
        yield f"<text x='4' y='14' {_FONT}>{escape(title)}</text>\n"
        for place, kind in enumerate(self.kinds):
            x = whole - 120 * (len(self.kinds) - place)
            yield f"<rect x='{x}' y='5' width='12' height='12' fill='{_COLOURS[kind][0]}'/>"
            yield f"<text x='{x + 16}' y='15' {_FONT}>{_WORDS[kind]}</text>\n"

    def boxes(self) -> Iterator[str]:
        for rank in range(self.schedule.pp):
            y = _TOP + _ROW * rank
            yield f"<text x='4' y='{y + 15}' {_FONT}>rank {rank}</text>"
            yield (
                f"<rect x='{_LABEL}' y='{y}' width='{self.width}' height='{_ROW - 4}' "
                "fill='#f4f4f4'/>"
            )
            rows = zip(
                self.schedule.order(rank),
                self.timeline.starts_ns[rank].tolist(),
                self.timeline.ends_ns[rank].tolist(),
                strict=True,
            )
            for step, start_ns, end_ns in rows:
                yield from self.step(step.actions, y=y, start_ns=start_ns, end_ns=end_ns)

    def step(
        self, actions: tuple[Action, ...], *, y: int, start_ns: int, end_ns: int
    ) -> Iterator[str]:
        height = (_ROW - 4) / len(actions)
        for place, action in enumerate(actions):
            yield self.box(
                action, y=y + place * height, height=height, start_ns=start_ns, end_ns=end_ns
            )

    def box(self, action: Action, *, y: float, height: float, start_ns: int, end_ns: int) -> str:
        x = _LABEL + self.width * start_ns / self.makespan_ns
        width = self.width * (end_ns - start_ns) / self.makespan_ns
        is_later = action.stage >= self.schedule.pp
        colour = _COLOURS[action.kind][is_later]
        hint = (
            f"{action}: stage {action.stage} {_WORDS[action.kind]}, microbatch "
            f"{action.microbatch}, {start_ns} to {end_ns} ns"
        )
        box = (
            f"<g><title>{escape(hint)}</title><rect x='{x:.2f}' y='{y:.1f}' width='{width:.2f}' "
            f"height='{height:.1f}' fill='{colour}' stroke='white' stroke-width='0.6'/>"
        )
        size = min(11, int(height) - 1)
        text = str(action.microbatch)
        if width < 0.62 * size * len(text) + 1:
            return box + "</g>"
        return (
            f"{box}<text x='{x + width / 2:.2f}' y='{y + height / 2 + 0.36 * size:.1f}' "
            f"font-family='sans-serif' font-size='{size}' text-anchor='middle'>{text}</text></g>"
        )
