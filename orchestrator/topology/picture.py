"""The rank map as a picture (SVG): a box a GPU, or a box a host where there are many.

A box has the colour of its pipeline rank, paler for higher data-parallel ranks; hosts stand
below the switch they hang on. Pointing at a box tells its coordinates.
"""

from collections.abc import Iterator
from colorsys import hls_to_rgb
from html import escape

from orchestrator.errors import UsageError
from orchestrator.records.layout import Layout
from orchestrator.topology.nodelist import shortened
from orchestrator.topology.placement import Placement
from orchestrator.topology.ranks import DEFAULT_ORDER, RankOrder, coordinates

MAX_HOSTS = 20_000
"""More boxes than this make a file that viewers open slowly or not at all."""

_DETAILED_HOSTS = 64
_NARROWEST = 640
_NAME = 150
_GPU_WIDTH = 88
_ROW = 24
_HOST = 40
_HOSTS_IN_ROW = 32
_TOP = 46
_LEGEND = 20
_LEGEND_WIDTH = 62
_FONT = "font-family='sans-serif' font-size='11'"
_SMALL = "font-family='sans-serif' font-size='9' text-anchor='middle'"
_DARKEST, _PALEST = 0.62, 0.92


def text_of(layout: Layout, placement: Placement, *, order: RankOrder = DEFAULT_ORDER) -> str:
    """Return the picture of ranks on hosts as an SVG document.

    Raises:
        UsageError: there are more than `MAX_HOSTS` hosts.
    """
    if len(placement.seats) > MAX_HOSTS:
        raise UsageError(
            problem=f"a picture of {len(placement.seats):,} hosts is more than {MAX_HOSTS:,}",
            instead="--rank-map shows them as text, --json whole",
        )
    drawing = _Drawing(layout, placement, order)
    body = list(drawing.body())
    return "\n".join((*drawing.head(), *body, "</svg>", ""))


class _Drawing:
    def __init__(self, layout: Layout, placement: Placement, order: RankOrder) -> None:
        self.layout, self.placement = layout, placement
        self.where = {
            axis: numbers.tolist() for axis, numbers in coordinates(layout, order).items()
        }
        self.per_host = placement.machine.gpus_per_host
        self.is_detailed = len(placement.seats) <= _DETAILED_HOSTS
        boxes = self.per_host * _GPU_WIDTH if self.is_detailed else _HOSTS_IN_ROW * _HOST
        self.width = max(_NARROWEST, _NAME + boxes + 10)
        self.y = _TOP + _LEGEND * self._legend_rows()

    def head(self) -> Iterator[str]:
        layout, machine = self.layout, self.placement.machine
        title = (
            f"{layout.world_size:,} ranks on {machine.hosts:,} hosts of {self.per_host}: tp "
            f"{layout.tp} x cp {layout.cp} x dp {layout.dp} x pp {layout.pp}"
        )
        what = (
            "a box is a GPU: its rank, then its place on tp (t), cp (c), dp (d), pp (p)"
            if self.is_detailed
            else (f"a box is a host of {self.per_host} GPUs, with its first rank")
        )
        yield (
            f"<svg xmlns='http://www.w3.org/2000/svg' width='{self.width}' height='{self.y + 8}' "
            f"viewBox='0 0 {self.width} {self.y + 8}'><title>{escape(title)}</title>"
            f"<rect width='{self.width}' height='{self.y + 8}' fill='white'/>"
        )
        yield f"<text x='6' y='16' {_FONT} font-weight='bold'>{escape(title)}</text>"
        yield f"<text x='6' y='32' {_FONT}>{what}; colour: pipeline rank, paler: later dp</text>"
        for stage in range(self.layout.pp):
            line, place = divmod(stage, self._legend_columns())
            x, y = 6 + place * _LEGEND_WIDTH, _TOP + _LEGEND * line - 4
            colour = self._colour(stage, 0)
            yield f"<rect x='{x}' y='{y}' width='14' height='14' fill='{colour}'/>"
            yield f"<text x='{x + 18}' y='{y + 11}' {_FONT}>pp {stage}</text>"

    def body(self) -> Iterator[str]:
        below: dict[tuple[str, ...], list[int]] = {}
        for seat, host in enumerate(self.placement.hosts):
            below.setdefault(host.path, []).append(seat)
        for path, seats in below.items():
            if path:
                label = escape(shortened(" / ".join(path), columns=60))
                yield f"<text x='6' y='{self.y + 12}' {_FONT} font-weight='bold'>{label}</text>"
                self.y += 18
            yield from self._hosts(seats) if self.is_detailed else self._tiles(seats)
            self.y += 6

    def _hosts(self, seats: list[int]) -> Iterator[str]:
        for seat in seats:
            name = escape(shortened(self.placement.hosts[seat].name, columns=22))
            yield f"<text x='6' y='{self.y + 14}' {_FONT}>{name}</text>"
            for local in range(self.per_host):
                rank = seat * self.per_host + local
                axes = self._axes(rank)
                short = " ".join(f"{axis[0]}{number}" for axis, number in axes if self._shown(axis))
                yield self._box(
                    rank,
                    x=_NAME + local * _GPU_WIDTH,
                    width=_GPU_WIDTH,
                    text=f"{rank}: {short}" if short else str(rank),
                    hint=f"rank {rank}: " + ", ".join(f"{axis} {n}" for axis, n in axes),
                )
            self.y += _ROW

    def _tiles(self, seats: list[int]) -> Iterator[str]:
        for start in range(0, len(seats), _HOSTS_IN_ROW):
            row = seats[start : start + _HOSTS_IN_ROW]
            first, last = (self.placement.hosts[seat].name for seat in (row[0], row[-1]))
            label = (
                first
                if len(row) == 1
                else f"{shortened(first, columns=11)} - {shortened(last, columns=11)}"
            )
            yield f"<text x='6' y='{self.y + 14}' {_FONT}>{escape(label)}</text>"
            for place, seat in enumerate(row):
                rank = seat * self.per_host
                last_rank = rank + self.per_host - 1
                axes = ", ".join(
                    f"{axis} {one}" if one == other else f"{axis} {one}-{other}"
                    for (axis, one), (_, other) in zip(
                        self._axes(rank), self._axes(last_rank), strict=True
                    )
                )
                name = self.placement.hosts[seat].name
                yield self._box(
                    rank,
                    x=_NAME + place * _HOST,
                    width=_HOST,
                    text=str(rank),
                    hint=f"{name}: ranks {rank}-{last_rank}: {axes}",
                )
            self.y += _ROW

    def _box(self, rank: int, *, x: int, width: int, text: str, hint: str) -> str:
        colour = self._colour(self.where["pp"][rank], self.where["dp"][rank])
        return (
            f"<g><title>{escape(hint)}</title><rect x='{x}' y='{self.y}' width='{width}' "
            f"height='{_ROW - 3}' fill='{colour}' stroke='white'/>"
            f"<text x='{x + width / 2:g}' y='{self.y + 14}' {_SMALL}>{escape(text)}</text></g>"
        )

    def _axes(self, rank: int) -> list[tuple[str, int]]:
        return [(axis, self.where[axis][rank]) for axis in ("tp", "cp", "dp", "pp")]

    def _shown(self, axis: str) -> bool:
        return int(getattr(self.layout, axis)) > 1

    def _colour(self, stage: int, dp: int) -> str:
        """Return a hue for each pipeline rank, alternately strong and dull so neighbours differ."""
        lightness = _DARKEST + (_PALEST - _DARKEST) * dp / max(1, self.layout.dp - 1)
        saturation = 0.55 if stage % 2 else 0.8
        red, green, blue = hls_to_rgb(stage / max(1, self.layout.pp), lightness, saturation)
        return f"#{round(255 * red):02x}{round(255 * green):02x}{round(255 * blue):02x}"

    def _legend_columns(self) -> int:
        return max(1, (self.width - 12) // _LEGEND_WIDTH)

    def _legend_rows(self) -> int:
        return -(-self.layout.pp // self._legend_columns())
