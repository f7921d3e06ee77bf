"""An Airflow on a scripted wire that allows its user exactly some rights of FAB, by the tables of FAB's own code."""

from __future__ import annotations

import re
from typing import Any

from workflows.airflow.tests.scripted import API, Reply, Request, ScriptedAirflow, paged
from workflows.tests.stage import dag_json

HEALTHY = {"status": "healthy"}
RUNS, TASKS = "DAG Runs", "Task Instances"
# What FAB checks of each endpoint beside the DAG itself: a pattern of the path, and the resources.
ENTITIES = [
    (r"/dags/[^/]+/dagRuns/[^/]+/taskInstances/[^/]+/logs/\d+", ["Task Logs"]),
    (r"/dags/[^/]+/dagRuns/[^/]+(/taskInstances/[^/]+/-1)?/hitlDetails", ["HITL Detail"]),
    (r"/dags/[^/]+/dagRuns/[^/]+/taskInstances/[^/]+/xcomEntries/[^/]+", ["XComs"]),
    (r"/dags/[^/]+/dagRuns/[^/]+/taskInstances(/.*)?", [RUNS, TASKS]),
    (r"/dags/[^/]+/dagRuns(/.*)?", [RUNS]),
    (r"/dags/[^/]+/clearTaskInstances", [RUNS, TASKS]),
    (r"/dags/[^/]+/tasks", [TASKS]),
    (r"/dags/[^/]+/dagVersions", ["DAG Versions"]),
    (r"/dags(/[^/]+(/details)?)?", []),
    (r"/eventLogs", ["Audit Logs"]),
]
VIEWS = {"/importErrors": "ImportError", "/pools": "Pools", "/plugins": "Plugins"}
ACTIONS = {"GET": "read", "POST": "create", "PATCH": "edit"}


class GuardedAirflow(ScriptedAirflow):
    """It has the DAG `etl`. `allowed` are rights such as `can read on DAGs`, or `can edit on DAG:etl`."""

    def __init__(self, allowed: set[str], *, first_api: bool = False, title: str = "FAB auth manager API") -> None:
        super().__init__(api="/api/v1" if first_api else API, version="2.11.2" if first_api else "3.3.2")
        self.allowed = allowed
        self.first_api = first_api
        self.dags = {"etl": dag_json("etl")}
        self.plugins = ["svops_listener"]
        # The requests that would have changed something.
        self.writes: list[tuple[str, str]] = []
        self.pages["GET", "/auth/openapi.json"] = lambda _: Reply(200, {"info": {"title": title}})
        self.pages["GET", "/ui/structure/structure_data"] = self._structure

    def _do(self, request: Request, path: str) -> Reply:
        if (request.method, path) in self.answers:
            return super()._do(request, path)
        if path in {"/health", "/monitor/health"}:
            return Reply(200, dict.fromkeys(("metadatabase", "scheduler", "dag_processor", "triggerer"), HEALTHY))
        if path in VIEWS:
            return self._list(path, request) if self._may("read", VIEWS[path]) else self._forbidden()
        if self.first_api and (path.endswith("/hitlDetails") or "dagVersions" in path):
            return Reply(404, {"title": "Not Found", "detail": None})
        return self._answer(request, path) if self._is_allowed(request, path) else self._forbidden()

    def _is_allowed(self, request: Request, path: str) -> bool:
        resources = next(found for pattern, found in ENTITIES if re.fullmatch(pattern, path))
        action = ACTIONS[request.method]
        if path.endswith("/list"):
            action = "read"
        if path.endswith("/clearTaskInstances"):
            action = "edit"
        if not all(self._may(action, resource) for resource in resources):
            return False
        dag_id = path.split("/")[2] if path.startswith("/dags/") else "~"
        if path == "/eventLogs" and "dag_id" in request.query:
            dag_id = request.query["dag_id"][0]
        if self.first_api and path == "/dags/~/dagRuns/~/taskInstances/list":
            dag_id = request.body["dag_ids"][0]
        if dag_id == "~":
            # 2.11 asks for no right on DAGs if the request is about what belongs to them.
            return (self.first_api and bool(resources)) or self._sees_any_dag()
        return self._may_dag("read" if action == "read" else "edit", dag_id)

    def _may(self, action: str, resource: str) -> bool:
        return f"can {action} on {resource}" in self.allowed

    def _may_dag(self, action: str, dag_id: str) -> bool:
        return self._may(action, "DAGs") or self._may(action, f"DAG:{dag_id}")

    def _sees_any_dag(self) -> bool:
        return any(right.startswith("can read on DAG:") for right in self.allowed) or self._may("read", "DAGs")

    def _forbidden(self) -> Reply:
        return Reply(403, {"title": "Forbidden", "detail": None} if self.first_api else {"detail": "Forbidden"})

    def _structure(self, request: Request) -> Reply:
        needs = [("read", name) for name in ("DAG Dependencies", RUNS, TASKS)]
        is_allowed = all(self._may(*one) for one in needs) and self._may_dag("read", request.query["dag_id"][0])
        return Reply(200, {"nodes": [], "edges": []}) if is_allowed else self._forbidden()

    def _list(self, path: str, request: Request) -> Reply:
        if path == "/plugins":
            return paged("plugins", [{"name": name} for name in self.plugins])(request)
        return paged({"/importErrors": "import_errors", "/pools": "pools"}[path], [])(request)

    def _answer(self, request: Request, path: str) -> Reply:  # noqa: C901 - a table of endpoints
        match request.method, path.strip("/").split("/"):
            case "GET", ["dags"]:
                seen = [self._shown(dag) for name, dag in self.dags.items() if self._may_dag("read", name)]
                return paged("dags", seen)(request)
            case "GET", ["dags", dag_id] if dag_id in self.dags:
                return Reply(200, self._shown(self.dags[dag_id]))
            case "GET", ["dags", dag_id, "details"] if dag_id in self.dags:
                return Reply(200, self._shown(self.dags[dag_id], "details"))
            case "GET", ["dags", dag_id, "tasks"] if dag_id in self.dags:
                return Reply(200, {"tasks": self.dags[dag_id]["tasks"]})
            case "GET" | "POST", ["dags", "~", *rest]:
                key = {"dagRuns": "dag_runs", "taskInstances": "task_instances"}
                found = [word for word in rest if word in key]
                names = {"dagVersions": "dag_versions", "hitlDetails": "hitl_details"}
                name = names.get(rest[-1]) or key[found[-1]]
                return paged(name, [])(request)
            case "GET", ["eventLogs"]:
                return paged("event_logs", [])(request)
            case "POST", ["dags", "etl", "dagRuns"] if self._is_sound(request.body):
                self.writes.append((request.method, path))
                return Reply(200, {})
            case "POST", ["dags", "etl", "dagRuns"]:
                return Reply(400 if self.first_api else 422, {"detail": "Bad Request"})
            case "PATCH", ["dags", "etl"]:
                is_masked = request.query.get("update_mask", ["is_paused"]) != ["is_paused"]
                if not is_masked:
                    self.writes.append((request.method, path))
                return Reply(400 if is_masked else 200, {"detail": "Only `is_paused` can be updated"})
        return Reply(404, {"detail": "not found"})

    def _is_sound(self, body: Any) -> bool:
        if self.first_api:
            return bool(body.get("logical_date") == body.get("execution_date"))
        return "logical_date" in body and isinstance(body.get("conf", {}), dict)

    def _shown(self, dag: dict[str, Any], form: str = "listed") -> Any:
        return {**dag[form], "is_active": True} if self.first_api else dag[form]
