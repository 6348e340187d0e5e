"""The shape of the data: metrics, instances, metric rows."""
