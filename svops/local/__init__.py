"""The embedded platform: what `make up`, `make demo` and the tests start on one machine."""
