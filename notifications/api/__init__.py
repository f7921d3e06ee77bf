"""The REST endpoints below /api/v1/notifications: configs, types, and the ledger of deliveries.

No row is written here: the views call `notifications.services`. No target or secret leaves unmasked.
Start with `views`, then `inputs` and `serializers`.
"""
