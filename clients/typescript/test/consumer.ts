// What a user of the package writes. It is compiled and not run.

import { type Event, type EventOf, followRun, type Run, Svops, SvopsError } from "@svops/client";
import { RunProgress, SvopsProvider, useRun, useRuns, useTrigger } from "@svops/client/react";
import { typesFor } from "@svops/client/types";

declare function show(...what: unknown[]): void;

interface OrdersParameters {
  rows: number;
}

const svops = new Svops({ url: "https://svops.example.com", token: () => "key" });

export async function calls(): Promise<string> {
  const { default_parameters } = await svops.get("/workflows/{id}", { path: { id: 3 } });
  const run: Run = await svops.trigger<OrdersParameters>(3, { parameters: { rows: 5 }, task_id: 4711 });
  for await (const { state } of svops.list("/runs", { query: { workflow: 3 } })) if (state === "failed") break;
  // @ts-expect-error: there is no such path.
  await svops.get("/workflow/{id}", { path: { id: 3 } });
  // @ts-expect-error: the id is missing.
  await svops.get("/workflows/{id}");
  // @ts-expect-error: there is no such filter.
  await svops.get("/runs", { query: { workflw: 3 } });
  // @ts-expect-error: rows is a number.
  await svops.trigger<OrdersParameters>(3, { parameters: { rows: "5" } });
  return typesFor("orders", {}, default_parameters) + run.id;
}

export async function live(signal: AbortSignal): Promise<void> {
  const ticket = async () => (await fetch("/ticket")).json();
  try {
    for await (const event of followRun("0b5e", { ticket, signal })) show(described(event));
  } catch (error) {
    if (error instanceof SvopsError) show(error.status, error.code, error.errors, error.retryAfter);
  }
}

function described(event: Event): string {
  if (event.type === "workflow.failed") return event.data.failed_tasks.join(", ");
  if (event.type === "task.started") return `${event.task_id} ${event.data.try_number}`;
  // @ts-expect-error: only some events have it.
  return event.data.failed_tasks;
}

export const isCompleted = (event: Event): event is EventOf<"workflow.completed"> =>
  event.type === "workflow.completed";

export function Page({ id }: { id: string }) {
  const view = useRun(id, { ticket: () => fetch("/ticket").then((answer) => answer.json()), keepOpen: true });
  const { runs, refresh } = useRuns({ state: ["running"] });
  const { trigger, isPending } = useTrigger<OrdersParameters>(3);
  const own = useTrigger(async (rows: number, { idempotencyKey }) => ({ id: `${rows} ${idempotencyKey}` }));
  if (!isPending && runs.length) void trigger({ parameters: { rows: 5 } }).then(refresh);
  void own.trigger(5).then((run) => run?.id);
  return RunProgress({ view, className: "bar", children: ({ progress }) => `${progress.done}` });
}

export const app = SvopsProvider({ client: svops });
