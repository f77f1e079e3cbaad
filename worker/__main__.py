"""`python -m worker`: start a worker. Its settings come from the environment (see `worker/settings.py`)."""

import logging
import sys

from pydantic import ValidationError

from worker import client, workdir
from worker.runtime import TRAINER, Runtime
from worker.settings import WorkerSettings

log = logging.getLogger("worker")


def main(entry: str = TRAINER) -> int:
    """Run a worker until it is told to stop; return the exit status: 0 after a stop, 1 when it cannot work."""
    logging.basicConfig(format="%(asctime)s %(levelname)-7s %(message)s", level=logging.INFO, stream=sys.stderr)
    for noisy in ("httpx", "httpcore", "celery", "kombu", "amqp"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    try:
        settings = WorkerSettings()
        runtime = Runtime(settings, entry)
        workdir.clean(settings.work_path)
        runtime.forkserver.start()
        runtime.introduce()
    except (ValidationError, ValueError, OSError) as error:
        log.critical("the worker cannot start: %s", error)
        return 1
    except client.Rejection as error:
        log.critical("the API at %s refuses this worker: %s", settings.api_url, error)
        return 1
    runtime.start_presence()
    # Imported last: the forkserver already imports torch meanwhile.
    from worker import celery_app

    status = celery_app.run(runtime)
    runtime.close()
    runtime.say_goodbye()
    log.info("the worker has stopped")
    return status


if __name__ == "__main__":
    sys.exit(main())
