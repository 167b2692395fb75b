"""A small JSON API."""

import os

from flask import Flask

app = Flask(__name__)


@app.get("/")
def index() -> dict[str, str]:
    return {"hello": os.environ.get("GREET", "world")}


@app.get("/health")
def health() -> dict[str, str]:
    return {"status": "ok"}
