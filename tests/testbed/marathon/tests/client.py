"""What the public Python client makes of the server: `client.py URL`."""

import collections
import collections.abc
import sys
import threading
import time

# The client looks for it where it was until Python 3.9.
collections.Iterable = collections.abc.Iterable

from marathon import MarathonClient
from marathon.exceptions import ConflictError, NotFoundError
from marathon.models import MarathonApp, MarathonGroup, MarathonQueueItem
from marathon.models.events import MarathonDeploymentSuccess, MarathonStatusUpdateEvent

LIMIT = 90
client = MarathonClient(sys.argv[1])


def wait(look):
    end = time.monotonic() + LIMIT
    while not (found := look()):
        assert time.monotonic() < end, "not within the limit"
        time.sleep(0.02)
    return found


def running(app, count):
    found = client.get_app(app, embed_counts=True)
    return found.tasks_running == count and not found.deployments and found


# It asks for JSON.
assert client.ping() == b'"pong"', client.ping()
info = client.get_info()
assert info.version == "1.11.26" and info.framework_id, info
assert client.get_leader()["leader"] == info.leader

events = []
stream = client.event_stream(event_types=[MarathonDeploymentSuccess, MarathonStatusUpdateEvent])
threading.Thread(target=lambda: [events.append(event) for event in stream], daemon=True).start()

# Create, list, get.
app = client.create_app("py", MarathonApp(cmd="exec sleep 100000", cpus=0.05, mem=16, instances=1, labels={"a": "b"}))
assert app.id == "/py" and app.deployments, app
wait(lambda: running("py", 1))
assert [app.id for app in client.list_apps(label="a==b")] == ["/py"]
assert client.list_apps(app_id="nothing") == []
assert client.get_app("py", embed_tasks=True).tasks[0].state == "TASK_RUNNING"

# Scale, versions, update.
assert client.scale_app("py", instances=3)["deploymentId"]
wait(lambda: running("py", 3))
client.scale_app("py", delta=-1)
wait(lambda: running("py", 2))
assert len(client.list_versions("py")) == 3
client.update_app("py", MarathonApp(cmd="exec sleep 200000"))
assert wait(lambda: running("py", 2)).cmd == "exec sleep 200000"
client.restart_app("py")
wait(lambda: running("py", 2))

# Tasks and kills.
tasks = client.list_tasks("py")
assert len(tasks) == 2 and tasks[0].started_at and tasks[0].host, tasks
killed = client.kill_task("py", tasks[0].id)
assert killed.id == tasks[0].id, killed
wait(lambda: tasks[0].id not in [task.id for task in client.list_tasks("py")] and running("py", 2))
assert client.kill_given_tasks([client.list_tasks("py")[0].id], scale=True)
wait(lambda: running("py", 1))
assert client.get_app("py").instances == 1
assert client.kill_tasks("py", scale=True)["deploymentId"]
wait(lambda: running("py", 0))

# Deployments and the queue.
client.create_app("big", MarathonApp(cmd="exec sleep 100000", cpus=7, mem=16, instances=3))
wait(lambda: client.get_app("big", embed_counts=True).tasks_running == 2)
deployment = client.list_deployments()[0]
assert deployment.affected_apps == ["/big"] and deployment.current_step == 2, deployment
try:
    client.scale_app("big", instances=4)
    raise AssertionError("a locked app is scaled")
except ConflictError:
    pass
# The client is older than the field `role` of Marathon 1.11, and would fail on it.
item = client._do_request("GET", "/v2/queue", params={"embed": "lastUnusedOffers"}).json()["queue"][0]
assert item.pop("role") == "*"
item = MarathonQueueItem.from_json(item)
assert item.app.id == "/big" and item.count == 1 and item.delay.overdue, item
client.reset_delay("/big")
client.delete_deployment(deployment.id, force=True)
assert client.list_deployments() == []
client.delete_app("big", force=True)

# Groups.
client.create_group(MarathonGroup(id="/g", apps=[MarathonApp(id="/g/a", cmd="exec sleep 100000", cpus=0.05, mem=16, instances=1)]))
wait(lambda: running("g/a", 1))
client.scale_group("g", 2)
wait(lambda: running("g/a", 2))
# Nor does it know `enforceRole`, so it cannot read a group.
assert client._do_request("GET", "/v2/groups/g").json()["apps"][0]["id"] == "/g/a"
client.delete_group("g")

# Delete.
client.delete_app("py")
try:
    client.get_app("py")
    raise AssertionError("a deleted app is there")
except NotFoundError:
    pass
wait(lambda: client.list_tasks() == [] and client.list_deployments() == [])
kinds = {type(event) for event in events}
assert kinds == {MarathonDeploymentSuccess, MarathonStatusUpdateEvent}, kinds
states = {event.task_status for event in events if isinstance(event, MarathonStatusUpdateEvent)}
assert {"TASK_RUNNING", "TASK_KILLED"} <= states, states
print("content")
