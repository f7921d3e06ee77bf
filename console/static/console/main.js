// Puts the page together: the user, the address, the stream and the page that the address names.

import { get, signedOut } from "./api.js";
import { startClock } from "./clock.js";
import { byId, fill } from "./dom.js";
import { refresher } from "./refresh.js";
import { RunPage } from "./run.js";
import { RunsPage } from "./runs.js";
import { Status } from "./status.js";
import { Stream } from "./stream.js";
import { toast, toastError } from "./toasts.js";
import { Workflows } from "./workflows.js";

const RUN = /^#\/runs\/(\d+)\/([0-9a-f-]{36})$/i;
const RELOAD_PAUSE_MS = 2_000;
const LOOK_PAUSE_MS = 60_000;

class Console {
  #main = byId("main");
  #search = byId("search");
  #status;
  #stream = new Stream();
  #workflows;
  /** @type {View.Page} */
  #page;
  #reloadWorkflows = refresher(() => this.#workflows.load(), RELOAD_PAUSE_MS);
  // There are no events for changes of a workflow itself.
  #lookAtWorkflows = refresher(() => this.#workflows.load(), LOOK_PAUSE_MS);

  /**
   * @param {Api.Me} me
   * @param {Status} status
   */
  constructor(me, status) {
    this.#status = status;
    this.#workflows = new Workflows(me, () => this.#page.workflowsChanged());
    status.airflows = this.#workflows.airflows;
    this.#listen();
    // The stream opens first, so that no change is missed between the first answers of the API and the stream.
    this.#stream.open();
    this.#page = this.#open();
    this.#workflows.load().catch(toastError);
  }

  #listen() {
    addEventListener("hashchange", () => this.#route());
    addEventListener("keydown", (event) => this.#goToSearch(event));
    document.querySelector(".skip")?.addEventListener("click", (event) => this.#skip(event));
    this.#main.addEventListener("titlechange", () => this.#nameTab());
    this.#on("state", (state) => this.#connectionChanged(state));
    this.#on("log", (events) => this.#take(events));
    this.#on("beat", () => this.#beat());
    this.#on("reset", () => this.#reset());
  }

  /**
   * @param {string} type
   * @param {(detail: any) => void} listener
   */
  #on(type, listener) {
    this.#stream.addEventListener(type, (event) =>
      listener(/** @type {import("./stream.js").StreamEvent} */ (event).detail),
    );
  }

  // --- the address ------------------------------------------------------------------------------------------

  #route() {
    for (const dialog of document.querySelectorAll("dialog")) dialog.close();
    const { run, filters } = placeOf(location.hash);
    if (run && run.id === this.#page.runId) {
      this.#page.point(filters);
      return;
    }
    this.#page.leave();
    this.#page = this.#open();
  }

  /** Open the page that the address names. */
  #open() {
    const { run, filters, pane } = placeOf(location.hash);
    const context = {
      workflows: this.#workflows,
      showFreshness: (/** @type {Api.Run[]} */ runs) => this.#status.showFreshness(runs),
    };
    const page = run ? new RunPage(run.workflowId, run.id, filters, context) : new RunsPage(filters, context);
    this.#page = page;
    document.body.dataset.pane = pane;
    for (const link of document.querySelectorAll(".panes a")) {
      link.setAttribute("aria-current", String(link instanceof HTMLElement && link.dataset.pane === pane));
    }
    fill(this.#main, page.element);
    scrollTo(0, 0);
    page.start();
    this.#nameTab();
    return page;
  }

  #nameTab() {
    document.title = `${this.#page.title()} - SVOps`;
  }

  /**
   * Move the focus without changing the address, which names the page.
   * @param {Event} event
   */
  #skip(event) {
    event.preventDefault();
    this.#main.focus();
  }

  /** @param {KeyboardEvent} event */
  #goToSearch(event) {
    const isTyping = event.target instanceof Element && event.target.matches("input, textarea, select");
    const isOther = event.key !== "/" || event.ctrlKey || event.metaKey || event.altKey;
    if (isOther || isTyping || document.querySelector("dialog[open]")) return;
    event.preventDefault();
    if (this.#search.offsetParent === null) location.hash = "#/workflows";
    this.#search.focus();
  }

  // --- the stream -------------------------------------------------------------------------------------------

  /** @param {import("./stream.js").State} state */
  #connectionChanged(state) {
    if (this.#status.showConnection(state) && state === "live") this.#page.refresh();
  }

  #beat() {
    this.#page.refresh();
    this.#lookAtWorkflows();
  }

  /** @param {Api.LogEvent[]} events */
  #take(events) {
    for (const event of events.filter(({ type }) => type.startsWith("system."))) this.#systemChanged(event);
    const known = new Set(this.#workflows.all.map((one) => one.id));
    const isOfWorkflows = (/** @type {Api.LogEvent} */ { type, data, workflow_id: id }) =>
      type.startsWith("dag.") || data.scope === "workflow" || (id !== null && !known.has(id));
    if (events.some(isOfWorkflows)) this.#reloadWorkflows();
    this.#page.take(events);
  }

  /** @param {Api.LogEvent} event */
  #systemChanged(event) {
    const airflow = String(event.data.airflow ?? "default");
    if (!this.#workflows.airflows.concerns(airflow)) return;
    const called = this.#workflows.airflows.called([airflow]);
    if (event.type === "system.airflow_up") toast(`${called} answers again.`);
    if (event.type === "system.airflow_emptied") toast(`${called} is drained and has no open run any more.`);
    else this.#status.showAirflow(airflow, event.type === "system.airflow_down");
  }

  async #reset() {
    toast("Some events are lost. The page loads everything again.");
    this.#page.refresh();
    try {
      await this.#page.reset();
    } catch (error) {
      toastError(error);
    }
  }
}

/**
 * What an address names. The workflows have a pane of their own on narrow screens.
 * @param {string} hash
 */
function placeOf(hash) {
  const [path, query] = hash.split("?");
  const found = RUN.exec(path);
  return {
    run: found && { workflowId: found[1], id: found[2] },
    filters: Object.fromEntries(new URLSearchParams(query)),
    pane: path === "#/workflows" ? "workflows" : "runs",
  };
}

const status = new Status();
signedOut.addEventListener("signedout", () => status.showConnection("signed-out"));
startClock();
get("/auth/me").then((me) => new Console(me, status), toastError);
