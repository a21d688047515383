"""Random questions to a cron expression: everything the dialect has, instants near changes of a zone's offset."""

from __future__ import annotations

from functools import cache
from random import Random

from actors.schedule.zones import piece_at
from tests.schedule.zone_files import changes

ZONES = (
    "UTC",
    "Africa/Casablanca",
    "Africa/Monrovia",
    "America/Caracas",
    "America/New_York",
    "America/Nuuk",
    "America/Santiago",
    "America/Sao_Paulo",
    "America/St_Johns",
    "Antarctica/Casey",
    "Antarctica/Troll",
    "Asia/Beirut",
    "Asia/Gaza",
    "Asia/Kathmandu",
    "Asia/Kolkata",
    "Asia/Pyongyang",
    "Asia/Tehran",
    "Australia/Lord_Howe",
    "Europe/Amsterdam",
    "Europe/Berlin",
    "Europe/Dublin",
    "Pacific/Apia",
    "Pacific/Chatham",
    "Pacific/Kwajalein",
    "Pacific/Norfolk",
)
MONTHS = ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"]
WEEKDAYS = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"]
MACROS = ["@yearly", "@annually", "@monthly", "@weekly", "@daily", "@midnight", "@hourly"]

FIRST, LAST = -1_577_923_200, 2_840_140_800  # 1920 to 2060


def _value(random: Random, low: int, high: int, names: list[str] | None) -> str:
    value = random.randint(low, high)
    if names and random.random() < 0.3 and value - low < len(names):
        return random.choice((str.lower, str.title, str.upper))(names[value - low])
    return f"{value:02d}" if random.random() < 0.1 else str(value)


def _member(random: Random, low: int, high: int, names: list[str] | None) -> str:
    kind = random.random()
    if kind < 0.6:
        return _value(random, low, high, names)
    if kind < 0.7:
        return f"*/{random.randint(1, high + 3)}"
    start = random.randint(low, high)
    span = f"{start}-{random.randint(start, high)}"
    return span if kind < 0.85 else f"{span}/{random.randint(1, high)}"


def _field(random: Random, low: int, high: int, free: float, names: list[str] | None = None) -> str:
    if random.random() < free:
        return "*"
    return ",".join(_member(random, low, high, names) for _ in range(random.choice((1, 1, 1, 2, 3))))


def _day_of_month(random: Random) -> str:
    kind = random.random()
    if kind < 0.5:
        return random.choice("***?")
    if kind < 0.6:
        return "L"
    if kind < 0.7:
        return f"{random.randint(1, 31)}W"
    return _field(random, 1, 31, 0)


def _day_of_week(random: Random) -> str:
    kind = random.random()
    if kind < 0.5:
        return random.choice("***?")
    if kind < 0.8:
        return _field(random, 0, 7, 0, WEEKDAYS)
    special = f"{_value(random, 0, 7, WEEKDAYS)}{random.choice(['L', *(f'#{nth}' for nth in range(1, 6))])}"
    return special if random.random() < 0.7 else f"{special},{_member(random, 0, 7, WEEKDAYS)}"


def expression(random: Random) -> str:
    if random.random() < 0.02:
        return random.choice(MACROS)
    return " ".join(
        [
            _field(random, 0, 59, 0.05),
            _field(random, 0, 23, 0.2),
            _day_of_month(random),
            _field(random, 1, 12, 0.7, MONTHS),
            _day_of_week(random),
        ]
    )


@cache
def changes_of(zone: str) -> list[int]:
    """Instants at which the zone's offset changes: those its file lists, and those of the rule that it ends with."""
    listed = [at for at, _, _ in changes(zone) if FIRST < at < LAST]
    pieces = (piece_at(zone, at) for at in range(listed[-1] if listed else LAST, LAST, 40 * 86_400))
    return sorted({*listed, *(piece.start for piece in pieces if piece.before != piece.offset)})


def instant(random: Random, zone: str) -> int:
    near = changes_of(zone)
    if near and random.random() < 0.6:
        return random.choice(near) + random.randint(-90_000, 90_000)
    return random.randint(FIRST, LAST)


def triple(random: Random) -> tuple[str, str, int]:
    zone = random.choice(ZONES)
    return expression(random), zone, instant(random, zone)
