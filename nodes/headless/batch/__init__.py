"""Batches: one workflow, run for every row of a table, on this machine or on a Ray cluster.

`command` ties it together: `table` reads the rows, `plan` checks them against the workflow, `changes` compares them
with those of the last run, and `job` runs those that are not finished. `store` and `journal` record what happened;
`manifest` and `page` show it. An engine of `engines` provides processes, and `row` runs one row in such a process.
"""
