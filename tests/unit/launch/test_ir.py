"""Pruning a compiled pipeline keeps exactly what leads to the chosen job, and the result is still a pipeline."""

import pytest
from kfp import compiler, components, dsl
from kfp.dsl import Dataset, Input, Model, Output

from imagewright.errors import InputError
from imagewright.launch.ir import PipelineIR, parse_ir, pin_images


@dsl.component(base_image="imagewright-worker", packages_to_install=[], install_kfp_package=False)
def pick_fruit(config: str, fruit: Output[Dataset]) -> None:
    print(config)


@dsl.component(base_image="imagewright-worker", packages_to_install=[], install_kfp_package=False)
def press_juice(config: str, fruit: Input[Dataset], juice: Output[Model]) -> None:
    print(config)


@dsl.component(base_image="imagewright-worker", packages_to_install=[], install_kfp_package=False)
def bake_cake(config: str, fruit: Input[Dataset], cake: Output[Model]) -> None:
    print(config)


@dsl.component(base_image="imagewright-worker", packages_to_install=[], install_kfp_package=False)
def serve_guests(config: str, cake: Input[Model], juice: Input[Model]) -> None:
    print(config)


@dsl.component(base_image="imagewright-worker", packages_to_install=[], install_kfp_package=False)
def wash_dishes(config: str, status: dsl.PipelineTaskFinalStatus) -> None:
    print(config)


@dsl.pipeline(name="drinks")
def drinks(config: str, fruit: Input[Dataset]) -> Model:
    return press_juice(config=config, fruit=fruit).outputs["juice"]


@dsl.pipeline(name="party")
def party(config: str) -> None:
    with dsl.ExitHandler(wash_dishes(config=config)):
        fruit = pick_fruit(config=config).outputs["fruit"]
        juice = drinks(config=config, fruit=fruit)
        cake = bake_cake(config=config, fruit=fruit)
        serve_guests(config=config, cake=cake.outputs["cake"], juice=juice.output)


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> PipelineIR:
    path = tmp_path_factory.mktemp("ir") / "party.yaml"
    compiler.Compiler().compile(party, str(path))
    return parse_ir(path.read_text(encoding="utf-8"))


def test_jobs_come_in_an_order_that_can_run(compiled: PipelineIR) -> None:
    jobs = compiled.jobs()
    assert set(jobs) == {"pick-fruit", "press-juice", "bake-cake", "serve-guests", "wash-dishes"}
    assert jobs.index("pick-fruit") < jobs.index("press-juice") < jobs.index("serve-guests")
    assert jobs[-1] == "wash-dishes"


@pytest.mark.parametrize(
    ("until", "kept"),
    [
        ("pick-fruit", {"pick-fruit"}),
        ("press-juice", {"pick-fruit", "press-juice"}),
        ("bake-cake", {"pick-fruit", "bake-cake"}),
        ("serve-guests", {"pick-fruit", "press-juice", "bake-cake", "serve-guests"}),
    ],
)
def test_until_keeps_ancestors_and_the_exit_handler(compiled: PipelineIR, until: str, kept: set[str]) -> None:
    pruned = compiled.until(until)
    assert set(pruned.jobs()) == kept | {"wash-dishes"}
    components.load_component_from_text(pruned.to_yaml())  # kfp accepts what is left
    assert set(pruned.spec["deploymentSpec"]["executors"]) == {f"exec-{name}" for name in pruned.jobs()}


def test_pruning_leaves_the_original_alone(compiled: PipelineIR) -> None:
    before = compiled.to_yaml()
    compiled.until("press-juice")
    assert compiled.to_yaml() == before


@pytest.mark.parametrize(
    ("start", "again"),
    [
        ("pick-fruit", {"pick-fruit", "press-juice", "bake-cake", "serve-guests", "wash-dishes"}),
        ("press-juice", {"press-juice", "serve-guests", "wash-dishes"}),
        ("bake-cake", {"bake-cake", "serve-guests", "wash-dishes"}),
        ("serve-guests", {"serve-guests", "wash-dishes"}),
    ],
)
def test_from_reaches_everything_downstream_across_nested_pipelines(compiled: PipelineIR, start: str, again: set[str]) -> None:
    assert compiled.descendants(start) == again


@dsl.component(base_image="imagewright-worker", packages_to_install=[], install_kfp_package=False)
def peel_fruit(config: str, piece: int, fruit: Input[Dataset], peel: Output[Dataset]) -> None:
    print(config)


@dsl.pipeline(name="salad")
def salad(config: str) -> Model:
    fruit = pick_fruit(config=config).outputs["fruit"]
    with dsl.ParallelFor([0, 1, 2]) as piece:
        peeled = peel_fruit(config=config, piece=piece, fruit=fruit)
    cake = bake_cake(config=config, fruit=fruit).after(peeled).outputs["cake"]
    serve_guests(config=config, cake=cake, juice=cake)
    return cake


@pytest.fixture(scope="module")
def sliced(tmp_path_factory: pytest.TempPathFactory) -> PipelineIR:
    path = tmp_path_factory.mktemp("ir") / "salad.yaml"
    compiler.Compiler().compile(salad, str(path))
    return parse_ir(path.read_text(encoding="utf-8"))


def test_slices_are_one_job_that_runs_before_what_gathers_them(sliced: PipelineIR) -> None:
    assert sliced.jobs() == ["pick-fruit", "peel-fruit", "bake-cake", "serve-guests"]
    assert sliced.descendants("peel-fruit") == {"peel-fruit", "bake-cake", "serve-guests"}
    assert sliced.until("bake-cake").jobs() == ["pick-fruit", "peel-fruit", "bake-cake"]


def test_a_pipeline_pruned_before_its_output_has_none(sliced: PipelineIR) -> None:
    assert "outputs" in sliced.until("bake-cake").spec["root"]["dag"]
    pruned = sliced.until("pick-fruit")
    assert pruned.spec["root"]["dag"].get("outputs", {}).get("artifacts", {}) == {}
    components.load_component_from_text(pruned.to_yaml())


def test_an_unknown_job_names_the_nearest(compiled: PipelineIR) -> None:
    with pytest.raises(InputError, match="did you mean 'bake-cake'"):
        compiled.until("bake-cakes")


def test_the_yaml_reads_back_as_the_same_pipeline(compiled: PipelineIR) -> None:
    assert parse_ir(compiled.to_yaml()) == compiled


def test_only_the_symbolic_image_is_replaced() -> None:
    images = {"exec-a": {"container": {"image": "imagewright-worker"}}, "exec-b": {"container": {"image": "other"}}}
    pipeline = PipelineIR({"deploymentSpec": {"executors": images}})
    executors = pin_images(pipeline, "registry.example/worker@sha256:aa").spec["deploymentSpec"]["executors"]
    assert [executors[name]["container"]["image"] for name in ("exec-a", "exec-b")] == ["registry.example/worker@sha256:aa", "other"]
    assert images["exec-a"]["container"]["image"] == "imagewright-worker"
