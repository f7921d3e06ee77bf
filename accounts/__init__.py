"""Who is asking and what they may do: users, sign-ins, API keys, tickets, single sign-on, limits, the audit trail.

Nothing here knows a workflow, a run or a notification. Start with `identity.Caller`, then `authentication`, `services`.
"""
