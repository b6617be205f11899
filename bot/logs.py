"""Logs as one JSON object a line on stdout, the libraries' records among ours."""

import logging
import sys

import structlog

# Bolt and the kubernetes client log every request at INFO; DBOS writes a traceback for each failed workflow.
QUIET = {"slack_bolt": logging.WARNING, "slack_sdk": logging.WARNING, "urllib3": logging.WARNING}
QUIET |= {"apscheduler": logging.WARNING, "uvicorn": logging.WARNING, "alembic": logging.WARNING}


def configure(level: str) -> None:
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                structlog.processors.JSONRenderer(),
            ],
        )
    )
    logging.getLogger().handlers = [handler]
    logging.getLogger().setLevel(level)
    for name, least in QUIET.items():
        logging.getLogger(name).setLevel(least)
