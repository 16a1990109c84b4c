"""Start the page: `python app.py`. Host and port: GRADIO_SERVER_NAME and GRADIO_SERVER_PORT."""

import os
import signal
import sys

# before gradio is imported: nothing is reported anywhere, and no Node server stands in front of the door
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
os.environ["GRADIO_SSR_MODE"] = "False"
# the page and a training share the cores: threads that wait must not spin (three times faster side by side)
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from mtl.errors import UserError  # noqa: E402
from mtl.garbage import uncollected  # noqa: E402
from mtl.settings import settings  # noqa: E402


def main() -> None:
    """Read the settings, build the page and serve it until a signal ends it."""
    os.environ["MTL_PROFILE"] = settings().profile  # training processes do not see that this is a Space
    with uncollected():
        from mtl.ui import logs
        from mtl.ui.app import build_demo, launch_options, open_context

        logs.set_up(settings())
        logs.say_settings(settings())
        signal.signal(signal.SIGTERM, _end)
        context = open_context()
        demo = build_demo(context)
        demo.launch(**launch_options(context), prevent_thread_lock=True)
    context.warm()  # only now: importing torch would hold up the first answer of the page
    demo.block_thread()


def _end(*_: object) -> None:
    """End as at the end of a program, so that the runs are saved; gradio would end at once, and leave them alone."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sys.exit(0)


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"error: {error}")
