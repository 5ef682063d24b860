"""So much at once, and so much as time goes by: what keeps a flood of lines from filling a disk."""


class Allowance:
    def __init__(self, most: int, seconds: float) -> None:
        """So many at once, and one more every so many seconds."""
        self._most = most
        self._seconds = seconds
        self._left = float(most)
        self._at = 0.0
        self.withheld = 0
        """That were not allowed since the last one was."""

    def take(self, now: float) -> bool:
        """Whether one more is allowed at this time, which only grows."""
        self._left = min(self._left + (now - self._at) / self._seconds, self._most)
        self._at = now
        if self._left < 1:
            self.withheld += 1
            return False
        self._left -= 1
        return True

    def told(self) -> int:
        """Those withheld, which are thereby said."""
        withheld, self.withheld = self.withheld, 0
        return withheld
