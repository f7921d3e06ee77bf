// The REST API: the session cookie says who is asking, the CSRF token that it is this page.

export const BASE = "/api/v1";

/** What the API refused, in its own words; `errors` names fields. */
export class ApiError extends Error {
  constructor(status, body) {
    super(body.detail || `The server answered ${status}.`);
    this.status = status;
    this.code = body.code || "error";
    this.errors = body.errors || {};
    this.requestId = body.request_id || "";
    this.body = body;
  }
}

export const signedOut = new EventTarget();

export const get = (path) => request("GET", path);
export const post = (path, body, more = {}) => request("POST", path, body, more);

/** Every result of a list that is paged, up to `most` pages of it. */
export async function getAll(path, most = 20) {
  const results = [];
  for (let next = path, page = 0; next && page < most; page += 1) {
    const answer = await get(next);
    results.push(...answer.results);
    next = answer.next;
  }
  return results;
}

export const runPath = (workflowId, runId) => `/workflows/${workflowId}/runs/${runId}`;

async function request(method, path, body, more = {}) {
  const headers = { Accept: "application/json", ...more };
  if (method !== "GET") {
    headers["Content-Type"] = "application/json";
    headers["X-CSRFToken"] = cookie("csrftoken");
  }
  const answer = await send(address(path), { method, headers, body: body && JSON.stringify(body) });
  const content = await answer.json().catch(() => ({}));
  if (answer.ok) return content;
  if (answer.status === 401) signedOut.dispatchEvent(new Event("signedout"));
  throw new ApiError(answer.status, content);
}

async function send(url, options) {
  try {
    return await fetch(url, options);
  } catch {
    throw new ApiError(0, { code: "unreachable", detail: "SVOps does not answer. Is the connection up?" });
  }
}

/** Links of a paged answer are absolute, and behind a proxy not always by the name that this page was loaded from. */
function address(path) {
  if (!path.startsWith("http")) return BASE + path;
  const link = new URL(path);
  return link.pathname + link.search;
}

function cookie(name) {
  const pair = document.cookie.split("; ").find((entry) => entry.startsWith(`${name}=`));
  return pair ? decodeURIComponent(pair.slice(name.length + 1)) : "";
}
