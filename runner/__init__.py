"""The embedded platform: what `make up`, `make demo` and the tests start on one machine.

It imports no app and is not in the image: it only starts and stops processes. Start with `platform.Platform`.
"""
