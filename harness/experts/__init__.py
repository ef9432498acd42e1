"""LoRA adapters and pools of them: opened, checked, grouped, read and written."""
