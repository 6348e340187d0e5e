"""What the tasks do: one module per DAG ties settings, connections and the plain functions of `ml` together."""
