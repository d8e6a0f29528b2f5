"""Component `finetune_sft`."""
