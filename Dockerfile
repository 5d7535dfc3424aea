# The service: slim, CPU only, not as root. See docs/serving.md.
FROM python:3.12-slim

# Name PyTorch's index of CPU builds here, or torch brings gigabytes of CUDA.
ARG TORCH_INDEX=

WORKDIR /app
COPY constraints.txt pyproject.toml README.md LICENSE ./
COPY src ./src
RUN python -m pip install --no-cache-dir ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} torch==2.13.0 \
 && python -m pip install --no-cache-dir -c constraints.txt '.[serve,explain]' onnxruntime \
 && useradd --system --create-home --uid 10001 service \
 && mkdir /adapters

USER service
ENV PEFT_SENTIMENT_CACHE=/home/service/.cache/peft-sentiment \
    PYTHONUNBUFFERED=1
EXPOSE 8000
STOPSIGNAL SIGTERM

HEALTHCHECK --interval=15s --timeout=5s --start-period=60s CMD \
  ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/readyz', timeout=4)"]

ENTRYPOINT ["peft-sentiment", "serve", "--host", "0.0.0.0", "--adapters-folder", "/adapters"]
CMD ["imdb=/adapters/imdb"]
