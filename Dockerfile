# The page by default; `docker run --rm IMAGE python -m mtl train …` trains.
FROM python:3.12-slim

# Another package index, for instance one with a CPU-only torch:
#   docker build --build-arg PIP_INDEX_URL=… --build-arg PIP_EXTRA_INDEX_URL=… -t mtl .
ARG PIP_INDEX_URL
ARG PIP_EXTRA_INDEX_URL

ENV PYTHONUNBUFFERED=1 PIP_NO_CACHE_DIR=1 \
    GRADIO_SERVER_NAME=0.0.0.0 GRADIO_SERVER_PORT=7860 GRADIO_ANALYTICS_ENABLED=False \
    MTL_RUNS_DIR=/app/checkpoints MTL_CACHE_DIR=/home/mtl/.cache/mtl

RUN useradd --create-home --uid 1000 mtl
WORKDIR /app
COPY requirements.txt ./
RUN pip install -r requirements.txt
COPY --chown=mtl:mtl app.py config.yaml GUIDE.md LICENSE ./
COPY --chown=mtl:mtl mtl mtl
COPY --chown=mtl:mtl assets assets
COPY --chown=mtl:mtl data data
COPY --chown=mtl:mtl checkpoints/starter checkpoints/starter
RUN chown mtl:mtl /app /app/checkpoints
USER mtl
VOLUME /app/checkpoints
EXPOSE 7860
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s \
    CMD python -c "import urllib.request as u; u.urlopen('http://127.0.0.1:7860/healthz', timeout=4)"
CMD ["python", "app.py"]
