"""Two experiments beside each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

Named = tuple[str, Mapping[str, Any]]


class SideBySide:
    """What two experiments have in common is left out, what differs is shown.

    One run each says nothing about chance: whether a difference is real is shown on items, by `lab.evaluate`.
    """

    def __init__(self, first: Named, second: Named) -> None:
        self.names = first[0], second[0]
        self._bodies = first[1], second[1]

    @property
    def config(self) -> pd.DataFrame:
        """The settings that differ, a column per experiment."""
        return self._beside("config")

    @property
    def versions(self) -> pd.DataFrame:
        """Packages of which the two used different versions."""
        return self._beside("versions")

    @property
    def summary(self) -> pd.DataFrame:
        """Every number of either, and the change from the first to the second."""
        import pandas as pd

        found = [body.get("summary", {}) for body in self._bodies]
        names = list(dict.fromkeys(name for one in found for name in one))
        table = pd.DataFrame([[one.get(name) for one in found] for name in names], index=names, columns=self._columns)
        numbers = table.apply(pd.to_numeric, errors="coerce")
        return table.assign(change=numbers.iloc[:, 1] - numbers.iloc[:, 0])

    @property
    def curves(self) -> pd.DataFrame:
        """Both logs in one table, told apart by the column experiment."""
        import pandas as pd

        logs = zip(self.names, self._bodies, strict=True)
        return pd.concat([pd.DataFrame(body.get("curves", [])).assign(experiment=name) for name, body in logs])

    def plot(self, curve: str = "loss", ax: Axes | None = None) -> Axes:
        """A curve of both over the steps, and where there is one, of the held-out data (dotted)."""
        from llmlab.plots import theme

        rows = self.curves
        ax = ax or theme.new_axes(6.4, 3.4)
        last = []
        with theme.applied():
            for name, colour in zip(self.names, theme.PALETTE, strict=False):
                own = rows[rows["experiment"] == name]
                line = own[["step", curve]].dropna()
                ax.plot(line["step"], line[curve], color=colour, linewidth=1.5, label=self._told(name))
                if (held := f"eval_{curve}") in own and own[held].notna().any():
                    dots = own[["step", held]].dropna()
                    ax.plot(dots["step"], dots[held], "o:", color=colour, markersize=4, linewidth=1)
                last.append(line[curve].iloc[-1] if len(line) else float("nan"))
            ax.set_xlabel("step")
            ax.set_ylabel(curve)
            ax.legend(frameon=False, fontsize=theme.SMALL)
            return theme.dress(ax, f"{curve} ends at {last[0]:.3g} and {last[1]:.3g}")

    @property
    def _columns(self) -> list[str]:
        same = self.names[0] == self.names[1]
        return [self.names[0], f"{self.names[1]} (again)" if same else self.names[1]]

    def _beside(self, part: str) -> pd.DataFrame:
        import pandas as pd

        found = [body.get(part, {}) for body in self._bodies]
        names = differences(found)
        cells = [[one.get(name) for one in found] for name in names]
        return pd.DataFrame(cells, index=names, columns=self._columns, dtype=object)

    def _told(self, name: str) -> str:
        """An experiment by what is special about it."""
        config = self._bodies[self.names.index(name)].get("config", {})
        special = ", ".join(f"{k}={config.get(k)}" for k in list(self.config.index)[:3])
        return special or name

    def __repr__(self) -> str:
        differ = ", ".join(
            f"{k}: {a!r} or {b!r}" for k, (a, b) in zip(self.config.index, self.config.values, strict=True)
        )
        return (
            f"SideBySide: {self.names[0]} and {self.names[1]}; {differ or 'equal settings'}\n{self.summary.to_string()}"
        )

    def _repr_html_(self) -> str:
        parts = [("settings that differ", self.config), ("numbers", self.summary), ("versions", self.versions)]
        return "".join(f"<p>{title}</p>{table.to_html()}" for title, table in parts if len(table))


def differences(configs: Sequence[Mapping[str, Any]]) -> list[str]:
    """Settings that do not have the same value in all of several configurations, in the order of their names."""
    names = list(dict.fromkeys(name for config in configs for name in config))
    return [name for name in names if any(config.get(name) != configs[0].get(name) for config in configs)]
