"""Run a workflow on a ComfyUI server instead of in this process."""
