"""The real control plane or worker, knowing the line engine as well: `python -m tests.engines.line.service api`."""

import sys

from tests.engines.line.engine import install


def main(part: str) -> int:
    install()
    if part == "worker":
        from worker.__main__ import main as work

        return work()
    import uvicorn

    from app.main import create_app
    from app.settings import get_settings

    uvicorn.run(create_app(), host="127.0.0.1", port=get_settings().port, log_level="warning")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
