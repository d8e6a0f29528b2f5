"""What Kubeflow hands a launcher of training instead of giving it to the launcher's own pod (`dsl.TaskConfig`)."""

from kfp import dsl

HANDED_ON = [
    dsl.TaskConfigField.RESOURCES,
    dsl.TaskConfigField.KUBERNETES_TOLERATIONS,
    dsl.TaskConfigField.KUBERNETES_NODE_SELECTOR,
    dsl.TaskConfigPassthrough(field=dsl.TaskConfigField.ENV, apply_to_task=True),
]
