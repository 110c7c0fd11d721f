#include "queue/queue.h"

const char *
queue_phase_name(QueuePhase phase)
{
    static const char *const names[] = {
        [QUEUE_QUEUED] = "queued",
        [QUEUE_RUNNING] = "running",
        [QUEUE_PREPARED] = "prepared",
        [QUEUE_COMPLETED] = "completed",
        [QUEUE_EXPIRED] = "expired",
        [QUEUE_FAILED] = "failed",
        [QUEUE_CANCELLED] = "cancelled",
    };

    return phase <= QUEUE_CANCELLED ? names[phase] : "unknown";
}
