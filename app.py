"""Start the page: `python app.py`. Host and port: GRADIO_SERVER_NAME and GRADIO_SERVER_PORT."""

import logging
import os

# before gradio is imported: nothing is reported anywhere, and the default encoder needs no network
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")

from mtl.ui.app import build_demo, launch_options  # noqa: E402

logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
for name in ("httpx", "sentence_transformers"):
    logging.getLogger(name).setLevel(logging.WARNING)

if __name__ == "__main__":
    build_demo().launch(**launch_options())
