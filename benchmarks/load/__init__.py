"""`make load`: many short runs are triggered while many clients watch; nothing may be late."""
