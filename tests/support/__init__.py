"""Helpers that tests share: tiny networks, toy nodes, builders of workflows, and drivers of a real ComfyUI."""
