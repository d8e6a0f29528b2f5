"""Kubeflow components that hand records of earlier work to a pipeline that is run by itself. Pointers only; nothing is copied."""

from kfp import dsl
from kfp.dsl import Dataset, Model, Output


@dsl.component(base_image="imagewright-worker", packages_to_install=[], install_kfp_package=False)
def import_dataset(inputs: str, name: str, optional: bool, record: Output[Dataset]) -> None:
    """Hands on the record of a dataset."""
    from imagewright.jobs.component import import_record

    import_record(inputs, name, optional, record)


@dsl.component(base_image="imagewright-worker", packages_to_install=[], install_kfp_package=False)
def import_model(inputs: str, name: str, optional: bool, record: Output[Model]) -> None:
    """Hands on the record of a model."""
    from imagewright.jobs.component import import_record

    import_record(inputs, name, optional, record)
