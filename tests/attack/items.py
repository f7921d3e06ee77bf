"""The attacks by number, as `docs/security.md` lists them, and the tests that make each."""

from __future__ import annotations

ITEMS = {
    1: "processor time by encodings and parsers",
    2: "memory by unfinished messages",
    3: "slow heads, bodies and readers",
    4: "open pages that ask others",
    5: "DAGs of somebody else",
    6: "patterns and schemas of DAG authors",
    7: "connections to Airflow, and logs",
    8: "floods on streams",
    9: "short questions with long answers",
    10: "rate limits by many keys",
    11: "mail to strangers",
    12: "wrong and forbidden values of fields",
    13: "secrets in quotes",
    14: "processes and files by Apprise",
    15: "names that look alike",
    16: "the environment of the operator",
    17: "the last admin, and the audit trail",
    18: "files, keys, logs, caches and addresses",
    19: "sessions, second factors and passwords",
    20: "old packages",
}

# By the beginning of the test's id below tests/attack/. The longest one counts.
OF_TESTS = {
    "test_decoders.py": 1,
    "test_sockets.py": 2,
    "test_slow_requests.py": 3,
    "test_open_pages.py": 4,
    "rights/": 5,
    "rights/test_masking.py": 13,
    "rights/test_dag_rules.py::test_names_that_look_alike": 15,
    "test_patterns.py": 6,
    "test_log_followers.py": 7,
    "test_flooded_streams.py": 8,
    "test_amplification.py": 9,
    "account/test_every_field.py": 12,
    "account/test_look_alikes.py": 15,
    "test_sign_in.py": 19,
    "account/test_mail.py": 11,
    "account/test_credentials.py": 10,
    "account/test_apprise.py": 14,
    "test_machine.py": 16,
    "test_machine.py::test_a_home": 18,
    "test_machine.py::test_the_runner_closes": 18,
    "test_machine.py::test_a_directory": 18,
    "test_machine.py::test_a_weak_secret_key": 18,
    "test_machine.py::test_a_random_secret_key": 18,
    "test_audit_trail.py": 17,
    "test_last_admin.py": 17,
    "test_second_factor.py": 19,
    "test_without_factor.py": 19,
    "test_two_processes.py": 8,
    "test_two_processes.py::test_requests": 10,
    "test_leaks.py": 18,
}


def number_of(nodeid: str) -> int | None:
    """Return the number of the attack that a test makes, or None if the list does not know it."""
    below = nodeid.removeprefix("tests/attack/")
    found = max((prefix for prefix in OF_TESTS if below.startswith(prefix)), key=len, default=None)
    return None if found is None else OF_TESTS[found]
