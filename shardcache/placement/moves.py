"""What changes hands between two rings."""

from collections.abc import Iterator, Mapping

__all__ = ("Moves",)


class Moves(Mapping[tuple[str, str], float]):
    """The shares of the key space that change owner, as ``{(from, to): share}``.

    A share is a fraction of 1, exact (a whole number of positions over a power of two), and above
    0.
    """

    __slots__ = ("_shares",)

    def __init__(self, shares: Mapping[tuple[str, str], float]) -> None:
        self._shares = dict(sorted(shares.items()))

    @property
    def total(self) -> float:
        """The share of all keys whose owner changes, from 0 to 1."""
        return sum(self._shares.values(), 0.0)

    def __getitem__(self, pair: tuple[str, str]) -> float:
        return self._shares[pair]

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return iter(self._shares)

    def __len__(self) -> int:
        return len(self._shares)

    def __str__(self) -> str:
        flows = "".join(
            f"\n  {source} -> {target}: {share:.2%}" for (source, target), share in self.items()
        )
        return f"{self.total:.2%} of the keys change hands{flows}"

    def __repr__(self) -> str:
        return f"Moves({self._shares!r})"
