"""The node classes and what runs them. Installed by pip this package is `wuerstchen_nodes`."""
