"""Makes a graph that takes artifacts runnable by itself: `imagewright run NAME --input dataset=name@rev`."""

from collections.abc import Callable
from typing import Any

from imagewright_components.evaluation.write_report.component import write_report
from imagewright_components.registry.import_record import import_dataset, import_model
from imagewright_pipelines.placement import place
from kfp import dsl

from imagewright.config.placement import PlacementConfig


def by_name(
    graph: Any, placement: PlacementConfig, *, datasets: tuple[str, ...] = (), models: tuple[str, ...] = (), optional: tuple[str, ...] = ()
) -> Callable[..., Any]:
    """A pipeline of `graph` whose inputs come as records; `optional` names those that may be left out."""

    # A name of its own: kfp takes a part named like the whole pipeline for the pipeline itself.
    @dsl.pipeline(name=f"{graph.name}-by-name")
    def alone(config: str, inputs: str) -> None:
        """Runs one stage on records of earlier work.

        1. import: a record for each input
        2. the stage itself
        3. write-report: whatever happened before it
        """
        with dsl.ExitHandler(place(write_report(config=config), "control", placement)):
            given = {}
            for names, component in ((datasets, import_dataset), (models, import_model)):
                for name in names:
                    task = component(inputs=inputs, name=name, optional=name in optional)
                    given[name] = place(task.set_display_name(f"import {name}"), "control", placement).outputs["record"]
            graph(config=config, **given)

    return alone
