"""The log of events: what may be recorded, who may see it, and in which order it becomes visible.

Nothing here knows why something happens or who is reading. Start with `events.record`, then `publication.publish`.
"""
