"""Run workflows on a ComfyUI server instead of in this process."""
