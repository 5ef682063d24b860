"""Steps and what each needs, as a graph. Nothing recurses: ten thousand steps in a row are a pipeline too."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

Needs = Mapping[str, Sequence[str]]


def order_of(needs: Needs) -> list[str]:
    """The steps, each after all that it needs, otherwise as they were given. Those in a circle are left out."""
    waiting = {name: {need for need in of if need in needs} for name, of in needs.items()}
    after: dict[str, list[str]] = {name: [] for name in needs}
    for name, of in waiting.items():
        for need in of:
            after[need].append(name)
    ready = [name for name, of in waiting.items() if not of]
    found: list[str] = []
    while ready:
        following: list[str] = []
        for name in ready:
            found.append(name)
            for other in after[name]:
                waiting[other].discard(name)
                if not waiting[other]:
                    following.append(other)
        ready = following
    return found


def cycles_in(needs: Needs) -> list[list[str]]:
    """Circles, each as the path that comes back to where it began. Every step in a circle is in one of them."""
    done = set(order_of(needs))
    left = [name for name in needs if name not in done]
    found: list[list[str]] = []
    seen: set[str] = set()
    for start in left:
        path: list[str] = []
        name = start
        while name not in seen:
            seen.add(name)
            path.append(name)
            # Whoever is left needs somebody who is left: the walk cannot end elsewhere.
            name = next(need for need in needs[name] if need in needs and need not in done)
        if name in path:
            circle = path[path.index(name) :]
            first = circle.index(min(circle))
            found.append([*circle[first:], *circle[: first + 1]])
    return found


@dataclass(frozen=True)
class Ancestors:
    """Which steps are done before which: a set of bits for each, since pipelines may be long."""

    numbers: Mapping[str, int]
    before: Mapping[str, int]

    def is_before(self, earlier: str, later: str) -> bool:
        """Whether `later` needs `earlier`, directly or through others. In a circle everything is before everything."""
        return later not in self.before or bool(self.before[later] >> self.numbers[earlier] & 1)


def ancestors_in(needs: Needs) -> Ancestors:
    """Who is before whom, in one pass."""
    numbers = {name: number for number, name in enumerate(needs)}
    before: dict[str, int] = {}
    for name in order_of(needs):
        bits = 0
        for need in needs[name]:
            if need in before:
                bits |= before[need] | 1 << numbers[need]
        before[name] = bits
    return Ancestors(numbers, before)
