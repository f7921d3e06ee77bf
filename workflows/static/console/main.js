// Puts the page together: who is here, where the address points, and what the stream brings.

import { get, signedOut } from "./api.js";
import { startClock } from "./clock.js";
import { announce, el, fill } from "./dom.js";
import { RunPage } from "./run.js";
import { RunsPage } from "./runs.js";
import { Stream } from "./stream.js";
import { toast, toastError } from "./toasts.js";
import { refresher } from "./refresh.js";
import { Workflows } from "./workflows.js";

const CONNECTION = { connecting: "Connecting", live: "Live", reconnecting: "Reconnecting", "signed-out": "Signed out", refused: "Not allowed" };
const RUN = /^#\/runs\/(\d+)\/([0-9a-f-]{36})$/i;

const main = document.getElementById("main");
const banner = document.getElementById("banner");
const stream = new Stream(new URL("/api/v1/ws", location.href.replace(/^http/, "ws")));
let page = null;
let workflows = null;
let isAirflowDown = false;

async function start() {
  startClock();
  listen();
  try {
    workflows = new Workflows(await get("/auth/me"), () => page?.workflowsChanged());
  } catch (error) {
    toastError(error);
    return;
  }
  // First the stream, then what it will tell of: nothing can fall between the two.
  stream.open();
  route();
  await workflows.load().catch(toastError);
}

function listen() {
  addEventListener("hashchange", route);
  addEventListener("keydown", goToSearch);
  main.addEventListener("titlechange", nameTab);
  document.querySelector(".skip").addEventListener("click", skip);
  signedOut.addEventListener("signedout", () => showConnection("signed-out"));
  stream.addEventListener("state", (event) => showConnection(event.detail));
  stream.addEventListener("log", (event) => take(event.detail));
  stream.addEventListener("beat", beat);
  stream.addEventListener("reset", reset);
}

// --- where -------------------------------------------------------------------------------------------------

function route() {
  const [path, query] = location.hash.split("?");
  const run = RUN.exec(path);
  const filters = Object.fromEntries(new URLSearchParams(query));
  document.querySelectorAll("dialog[open]").forEach((dialog) => dialog.close());
  if (run && page?.runId === run[2]) {
    page.point(filters);
    return;
  }
  const pane = path === "#/workflows" ? "workflows" : "runs";
  page?.leave();
  page = run ? new RunPage(run[1], run[2], filters, { workflows, fresh: showFreshness }) : new RunsPage(filters, { workflows, fresh: showFreshness });
  document.body.dataset.pane = pane;
  document.querySelectorAll(".panes a").forEach((link) => link.setAttribute("aria-current", link.dataset.pane === pane));
  fill(main, page.element);
  scrollTo(0, 0);
  page.start();
  nameTab();
}

function nameTab() {
  document.title = `${page.title()} - SVOps`;
}

/** The address says what is shown, so it is left alone. */
function skip(event) {
  event.preventDefault();
  main.focus();
}

function goToSearch(event) {
  const isTyping = event.target.matches("input, textarea, select") || document.querySelector("dialog[open]");
  if (event.key !== "/" || isTyping || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  if (document.getElementById("search").offsetParent === null) location.hash = "#/workflows";
  document.getElementById("search").focus();
}

// --- what the stream brings -----------------------------------------------------------------------------------

const reloadWorkflows = refresher(() => workflows.load(), 2000);

// What somebody changes of a workflow itself is no event.
const lookAtWorkflows = refresher(() => workflows.load(), 60_000);

function beat() {
  page?.refresh();
  lookAtWorkflows();
}

function take(events) {
  events.filter((event) => event.type.startsWith("system.")).forEach(noteSystem);
  if (events.some((event) => event.type.startsWith("dag.") || event.data.scope === "workflow")) reloadWorkflows();
  const known = new Set(workflows.all.map((one) => one.id));
  if (events.some((event) => event.workflow_id !== null && !known.has(event.workflow_id))) reloadWorkflows();
  page.take(events);
}

function noteSystem(event) {
  isAirflowDown = event.type === "system.airflow_down";
  if (!isAirflowDown) toast("Airflow answers again.");
  showFreshness(isAirflowDown);
}

function reset() {
  toast("Some events were lost for good; everything was loaded anew.");
  page.refresh();
  page.reset?.().catch(toastError);
}

// --- how it stands --------------------------------------------------------------------------------------------

function showConnection(state) {
  const pill = document.getElementById("connection");
  if (pill.dataset.state === state) return;
  pill.dataset.state = state;
  pill.textContent = CONNECTION[state];
  if (state === "signed-out") showBanner("You are signed out.", "Sign in to go on where you were.", el("a", { class: "button small", href: `/login${location.hash}` }, "Sign in"));
  if (state === "refused") showBanner("You may not follow the runs.", "Ask an administrator for the right to read workflows.");
  if (state === "live") page?.refresh();
}

function showFreshness(isStale) {
  // The API may have said so before the stream did.
  if (["signed-out", "refused"].includes(document.getElementById("connection").dataset.state)) return;
  if (!isStale) {
    isAirflowDown = false;
    banner.hidden = true;
    return;
  }
  const more = "States are as they were last seen. What you trigger is accepted, and handed over when Airflow is back.";
  showBanner(isAirflowDown ? "Airflow does not answer." : "Airflow can not be seen.", more);
}

function showBanner(title, text, ...more) {
  if (!banner.hidden && banner.dataset.title === title) return;
  banner.dataset.title = title;
  fill(banner, el("p", {}, el("strong", {}, title), " ", text), more);
  banner.hidden = false;
  announce(title);
}

start();
