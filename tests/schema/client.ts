// A client as a product team writes it: no cast, no `any`, no non-null assertion.
import createClient from "openapi-fetch";
import type { components, paths } from "./.made/schema.js";

type Run = components["schemas"]["Run"];
type RunEvent = components["schemas"]["Event"];

const api = createClient<paths>({ baseUrl: "http://127.0.0.1:8000" });

export async function signIn(username: string, password: string): Promise<string> {
  const { data, error } = await api.POST("/api/v1/auth/login", { body: { username, password } });
  if (!data) throw new Error(error.detail);
  return data.access_token.concat(` ${data.user.id.toFixed()} ${data.expires_in / 60}`);
}

export async function trigger(workflow: number, task: number | string): Promise<Run> {
  const { data, error, response } = await api.POST("/api/v1/workflows/{workflow_id}/runs", {
    params: { path: { workflow_id: workflow }, header: { "Idempotency-Key": `order-${task}` } },
    body: { caller_task_ref: task, parameters: { processing_time: 5 } },
  });
  if (data) return data;
  const field = error.errors?.["parameters.processing_time"]?.[0];
  throw new Error(`${response.status} ${error.code}: ${field ?? error.detail} (${error.request_id ?? ""})`);
}

export async function triggerAll(workflow: number, tasks: number[]): Promise<string[]> {
  const { data } = await api.POST("/api/v1/workflows/{workflow_id}/runs/batch", {
    params: { path: { workflow_id: workflow } },
    body: { items: tasks.map((task) => ({ caller_task_ref: task })) },
  });
  return (data?.results ?? []).map((one) => one.run?.id ?? one.error?.detail ?? String(one.status));
}

export function words(run: Run): string {
  const ref: string | number | null = run.caller_task_ref;
  const since = run.started_at === null ? "not started" : new Date(run.started_at).toISOString();
  const interval = run.data_interval ? `${run.data_interval.start} to ${run.data_interval.end}` : "";
  switch (run.state) {
    case "pending":
    case "queued":
      return `waits${run.paused ? ", paused" : ""} ${ref ?? ""}`;
    case "running":
    case "stopping":
      return `since ${since} ${interval}`;
    case "success":
      return `${run.duration_s?.toFixed(1) ?? "?"} s`;
    case "failed":
    case "stopped":
      return run.state_reason.toUpperCase();
    default: {
      const never: never = run.state;
      return never;
    }
  }
}

export async function failedRuns(): Promise<string[]> {
  const { data } = await api.GET("/api/v1/runs", {
    params: { query: { state: ["failed", "stopped"], ordering: ["-created_at"], include: ["parameters"], user: 7 } },
  });
  return data?.results.map((run) => `${run.workflow_name} ${Object.keys(run.parameters ?? {}).length}`) ?? [];
}

export async function stop(run: Run): Promise<string> {
  const { data, error, response } = await api.POST("/api/v1/workflows/{workflow_id}/runs/{run_id}/control", {
    params: { path: { workflow_id: run.workflow_id, run_id: run.id } },
    body: { action: "stop" },
  });
  if (data) return "would_run" in data ? data.would_run.map((task) => task.task_id).join() : data.state;
  if (response.status === 409 && "runs" in error) return `${error.state} ${error.runs?.map((other) => other.state).join()}`;
  return error.detail;
}

export async function tasks(run: Run): Promise<string[]> {
  const path = { workflow_id: run.workflow_id, run_id: run.id };
  const { data } = await api.GET("/api/v1/workflows/{workflow_id}/runs/{run_id}/tasks", { params: { path } });
  return (data?.results ?? []).map((task) => `${task.task_id} ${task.question?.options.join() ?? task.state}`);
}

export async function graph(dag: string): Promise<Map<string, string[]>> {
  const { data } = await api.GET("/api/v1/dags/{dag_id}", { params: { path: { dag_id: dag } } });
  return new Map(data?.tasks.map((task) => [task.task_id, task.downstream_task_ids]));
}

export async function logLines(run: Run, task: string): Promise<string> {
  const { data } = await api.GET("/api/v1/workflows/{workflow_id}/runs/{run_id}/tasks/{task_id}/logs", {
    params: { path: { workflow_id: run.workflow_id, run_id: run.id, task_id: task }, query: { tail: 20 } },
  });
  if (!data) return "";
  return "lines" in data ? data.lines.map((line) => line.text).join("\n") : data.detail;
}

export async function follow(after: number, show: (event: RunEvent) => void): Promise<number> {
  const { data } = await api.GET("/api/v1/events", { params: { query: { after, type: ["workflow.failed"] } } });
  data?.results.forEach(show);
  return data?.cursor ?? after;
}

export function told(event: RunEvent): string {
  switch (event.type) {
    case "workflow.failed":
      return `${event.data.failed_tasks.join()} ${event.data.reason} ${event.data.state}`;
    case "task.retrying":
      return `${event.task_id} ${event.data.try_number.toFixed()}`;
    case "workflow.triggered":
      return `${event.data.caller_task_ref ?? ""} ${event.data.trigger_type}`;
    case "dag.synced":
      return event.data.changed.join();
    default:
      return event.type;
  }
}

export function frame(said: components["schemas"]["StreamFrame"]): number | null {
  switch (said.type) {
    case "heartbeat":
    case "connection.ready":
      return said.cursor;
    case "events":
      return said.events.at(-1)?.id ?? null;
    case "error":
      throw new Error(said.detail);
    case "status":
      return said.tasks.length;
    case "workflow.completed":
      return said.data.duration_s;
    default:
      return null;
  }
}

export const subscribe: components["schemas"]["StreamMessage"] = { type: "subscribe", types: ["workflow.failed"] };
