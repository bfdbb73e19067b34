"""What context strategies keep of a task, and at what cost: tasks, controls, a scripted policy, measures."""
