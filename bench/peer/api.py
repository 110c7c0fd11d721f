"""The API: uvicorn api:api"""

import uuid
from typing import Any, Dict

import orjson
from fastapi import FastAPI, HTTPException
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.concurrency import run_in_threadpool

from common import TASK, app


class Answer(JSONResponse):
    def render(self, content):
        return orjson.dumps(content)


class Wanted(BaseModel):
    export_type: str
    params: Dict[str, Any] = Field(default_factory=dict)
    user_id: str


api = FastAPI(default_response_class=Answer)


@api.post("/api/exports/request")
async def request(wanted: Wanted):
    if wanted.export_type != "interaction_history":
        raise HTTPException(422, "unknown export_type")
    task_id = str(uuid.uuid4())
    # Celery and redis-py block, so that they are called on a thread of the pool.
    await run_in_threadpool(app.send_task, TASK, kwargs=wanted.model_dump(), task_id=task_id)
    return {"task_id": task_id, "status_url": f"/api/exports/{task_id}/status", "status": "queued"}


@api.get("/api/exports/{task_id}/status")
async def status(task_id: str):
    known = await run_in_threadpool(app.backend.get_task_meta, task_id)
    state, result = known["status"], known.get("result")
    if state == "SUCCESS":
        return {"status": "completed", **result}
    if state in ("FAILURE", "REVOKED"):
        return {"status": "failed", "error": str(result) or type(result).__name__}
    if state == "PENDING":
        return {"status": "queued", "progress": 0}
    return {"status": "processing", "progress": result.get("progress", 0) if isinstance(result, dict) else 0}
