"""What a layout must obey: one table, read by `validate` and by the planner's pruning."""
