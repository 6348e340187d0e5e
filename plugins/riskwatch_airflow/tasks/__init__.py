"""The bodies of the tasks, one module per DAG: they connect settings, connections and functions of `riskwatch_ml`."""
