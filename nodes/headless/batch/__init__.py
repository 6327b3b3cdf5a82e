"""Batches: one workflow, run for every row of a table, on this machine or on a Ray cluster.

`command` ties it together: `table` reads the rows, `plan` checks them against the workflow, `job` runs those that are
not finished. `journal` and `manifest` record what happened. An engine of `engines` provides processes, and `row` runs
one row in such a process.
"""
