"""What the API and the worker share: settings from the environment, and the Celery application."""

import os

from celery import Celery

TASK = "worker.generate_export"

app = Celery("exports", broker=os.environ["REDIS_URL"], backend=os.environ["REDIS_URL"])
app.conf.update(
    task_serializer="json", result_serializer="json", accept_content=["json"], timezone="UTC", enable_utc=True,
    task_track_started=True, worker_prefetch_multiplier=1, task_soft_time_limit=3600, task_time_limit=3900,
    result_expires=7 * 24 * 3600, broker_transport_options={"visibility_timeout": 7200},
    broker_connection_retry_on_startup=True)
