"""The live console: pages that use the public API and one WebSocket, like any other client.

It imports accounts, to sign people in, but never workflows or notifications. Start reading with
`static/console/main.js`; `types.d.ts` describes what the API returns.
"""
