"""Runs: the list. ``run`` has the page of one."""

from __future__ import annotations

from typing import Final

from flask import Blueprint, redirect, render_template
from werkzeug.wrappers import Response

from web.pages.frame import fresh, service

blueprint: Final = Blueprint("runs_pages", __name__)


@blueprint.get("/")
def home() -> Response:
    """Pages begin with the runs."""
    return redirect("/runs")


@blueprint.get("/runs")
def list_runs() -> Response:
    """What was queued, what runs, how it ended."""
    return fresh(render_template("runs.html", runs=service().runs.list()))
