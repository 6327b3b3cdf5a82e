"""Many pictures from one workflow: a table of inputs, a row a picture, on one machine or on a cluster.

`plan` reads the table against the workflow, `job` runs what is left of it and keeps the books (`journal`, `manifest`),
`row` runs one row in whatever process an engine (`engine_local`, `engine_ray`) provides.
"""
