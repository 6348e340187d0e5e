"""The shape of the data: metrics, instances and metric rows."""
