"""Start the page: `python app.py`. Host and port: GRADIO_SERVER_NAME and GRADIO_SERVER_PORT."""

import logging
import os

# before gradio is imported: nothing is reported anywhere
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
# the page and a training share the cores: threads that wait must not spin (three times faster side by side)
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from mtl.ui.app import build_demo, launch_options  # noqa: E402

logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
for name in ("httpx", "sentence_transformers"):
    logging.getLogger(name).setLevel(logging.WARNING)

if __name__ == "__main__":
    build_demo().launch(**launch_options())
