"""Who is notified of an event, on which channel, and each delivery with its attempts.

Nothing here changes a run, and no app below imports it: events come in through `settings.EVENT_SINKS`.
Start with `sinks` (an event becomes deliveries), then `rules` (who gets it), then `delivery` (the loop that sends).
"""
