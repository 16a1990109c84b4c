"""Start the page: `python app.py`. Host and port: GRADIO_SERVER_NAME and GRADIO_SERVER_PORT."""

import logging
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
        context = open_context()

        def end(*_: object) -> None:
            """Save the runs, and end at once.

            Not as a program ends by itself: threads that compute, or import torch, would then be stopped within C++,
            which aborts; and gradio's own way would leave the runs alone.
            """
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            context.queue.close()
            logging.shutdown()
            sys.stdout.flush()
            os._exit(0)

        signal.signal(signal.SIGTERM, end)
        demo = build_demo(context)
        demo.launch(**launch_options(context), prevent_thread_lock=True)
    context.warm()  # only now: importing torch would hold up the first answer of the page
    demo.block_thread()  # until Ctrl-C
    end()


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"error: {error}")
