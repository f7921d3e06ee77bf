/** What the API returns, as far as the console reads it. */
declare namespace Api {
  type RunState = "pending" | "queued" | "running" | "stopping" | "success" | "failed" | "stopped";

  interface Page<T> {
    results: T[];
    next: string | null;
  }

  interface Me {
    scopes: string[];
  }

  interface Run {
    id: string;
    workflow_id: number;
    workflow_name: string;
    airflow: string;
    dag_id: string;
    dag_run_id: string;
    state: RunState;
    state_reason: string;
    paused: boolean;
    pausing: boolean;
    trigger_type: string;
    username: string | null;
    task_id: number | string | null;
    dataset_id: number | string | null;
    parameters: Record<string, unknown>;
    note: string;
    attempt: number;
    created_at: string;
    run_at: string | null;
    logical_date: string | null;
    queued_at: string | null;
    started_at: string | null;
    ended_at: string | null;
    observed_at: string | null;
    stale: boolean;
    /** Only in the answer for a single run. */
    attempts?: Attempt[];
  }

  interface Attempt {
    number: number;
    state: RunState;
    state_reason: string;
    failed_tasks: string[];
    started_at: string | null;
    ended_at: string | null;
  }

  interface TaskRef {
    task_id: string;
    map_index: number;
  }

  interface Answer {
    chosen: string[];
    by: string;
  }

  interface Question {
    subject: string;
    body: string;
    options: string[];
    respondents: string[];
    answer: Answer | null;
  }

  interface TaskInstance extends TaskRef {
    state: string;
    try_number: number;
    instance_id: string;
    question: Question | null;
    started_at: string | null;
    ended_at: string | null;
    observed_at: string | null;
    stale: boolean;
  }

  interface LogLine {
    timestamp: string | null;
    level: string | null;
    text: string;
    is_cut: boolean;
  }

  /** The answer 202: the same request has to be repeated. */
  interface LogPreparing {
    code: "preparing";
    detail: string;
    waited_s: number;
  }

  interface LogPage {
    lines: LogLine[];
    cursor: string;
    ended: boolean;
  }

  interface Workflow {
    id: number;
    name: string;
    description: string;
    airflow: string;
    dag_id: string;
    is_active: boolean;
    is_paused: boolean;
    default_parameters: Record<string, unknown>;
    visibility: "internal" | "private";
    hindrance: string;
  }

  interface Dag {
    airflow: string;
    dag_id: string;
    description: string;
    is_paused: boolean;
    is_present: boolean;
    has_import_error: boolean;
    /** Why SVOps cannot trigger it; "" if it can. */
    unusable_reason: string;
    /** What Airflow refuses SVOps' user with it; "" if nothing is known. */
    refused_reason: string;
  }

  interface DagDetail extends Dag {
    params_schema: ObjectSchema;
    tasks: DagTask[];
  }

  interface DagTask {
    task_id: string;
    downstream_task_ids: string[];
  }

  interface ObjectSchema {
    properties?: Record<string, Schema>;
    required?: string[];
  }

  /** The parts of a JSON schema that a form field depends on. */
  interface Schema {
    type?: string | string[];
    title?: string;
    description?: string;
    default?: unknown;
    enum?: unknown[];
    examples?: unknown[];
    format?: string;
    minimum?: number;
    maximum?: number;
    maxLength?: number;
  }

  interface LogEvent {
    id: number;
    /** Null when the event belongs to no run. */
    seq: number | null;
    type: string;
    workflow_id: number | null;
    run_id: string | null;
    task_id: string | null;
    timestamp: string;
    data: EventData;
  }

  /** Each type of event has some of these. */
  interface EventData {
    airflow?: string;
    state?: string;
    map_index?: number;
    try_number?: number;
    attempt?: number;
    mode?: string;
    scope?: string;
    by?: string;
    reason?: string;
    note?: string;
    change?: string;
    still_running?: string[];
    subject?: string;
    options?: string[];
    chosen?: string[];
    duration_s?: number | null;
  }

  interface Reason {
    code: string;
    reason: string;
    who: string;
    action: string;
  }

  /** Why a pause was refused: the other active runs of the DAG that the user can see, and how many there are. */
  interface WouldFreeze {
    other_runs: number;
    runs: { run_id: string; workflow_id: number; state: RunState }[];
  }

  interface ErrorBody {
    code?: string;
    detail?: string;
    errors?: Record<string, string[]>;
    request_id?: string;
  }
}

/** What `dom.js` builds elements from. */
declare namespace Dom {
  type Listener = { of(event: Event): unknown }["of"];
  type Data = Record<string, string | number | boolean | null | undefined>;
  type Properties = Record<string, string | number | boolean | null | undefined | Listener | Data>;
  type Child = Node | string | number | boolean | null | undefined | Child[];
}

/** What `main.js` expects of a page, and what it gives to one. */
declare namespace View {
  interface Context {
    workflows: import("./static/console/workflows.js").Workflows;
    /** Says at the top of the page of which Airflows the states may be old. */
    showFreshness(runs: Api.Run[]): void;
  }

  interface Page {
    element: HTMLElement;
    /** The run that the page shows, if it shows a single one. */
    runId: string | null;
    title(): string;
    /** Fetch and show the content. */
    start(): unknown;
    /** Fetch the content again. */
    refresh(): unknown;
    /** Take new filters from the address. */
    point(filters: Record<string, string>): void;
    /** Receive the events of the stream. */
    take(events: Api.LogEvent[]): void;
    /** Replace events that the stream has lost. */
    reset(): unknown;
    /** The workflows were fetched again. */
    workflowsChanged(): unknown;
    /** End everything that the page does. */
    leave(): void;
  }
}
