"""ComfyUI's own nodes that shared workflows need, and the catalog of every node known here."""
