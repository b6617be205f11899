"""Which fixtures there are, and where. Each module of fixtures answers for one kind of real part."""

pytest_plugins = [
    "tests.fixtures_controlplane",
    "tests.fixtures_fleet",
    "tests.fixtures_metrics",
    "tests.fixtures_postgres",
    "tests.fixtures_slack",
    "tests.fixtures_store",
]
