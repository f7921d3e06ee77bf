// Calls the REST API. The session cookie names the user, the CSRF token proves that this page sends the request.

export const BASE = "/api/v1";

/** A refusal, with the API's own message. `errors` holds messages by field. */
export class ApiError extends Error {
  /**
   * @param {number} status 0 when there was no answer
   * @param {Api.ErrorBody} body
   */
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

/**
 * @param {string} path
 * @returns {Promise<any>}
 */
export const get = (path) => request("GET", path);

/**
 * @param {string} path
 * @param {unknown} body
 * @param {Record<string, string>} [headers]
 * @returns {Promise<any>}
 */
export const post = (path, body, headers = {}) => request("POST", path, body, headers);

/**
 * Return the results of all pages of a list, but at most `most` pages.
 * @param {string} path
 * @returns {Promise<any[]>}
 */
export async function getAll(path, most = 20) {
  const results = [];
  /** @type {string | null} */
  let next = path;
  for (let page = 0; next && page < most; page += 1) {
    const answer = await get(next);
    results.push(...answer.results);
    next = answer.next;
  }
  return results;
}

/**
 * @param {number | string} workflowId
 * @param {string} runId
 */
export const runPath = (workflowId, runId) => `/workflows/${workflowId}/runs/${runId}`;

/**
 * Return an error instead of throwing it, for callers that show it in place of the answer.
 * @template T
 * @param {Promise<T>} answer
 * @returns {Promise<T | ApiError>}
 */
export async function orError(answer) {
  try {
    return await answer;
  } catch (error) {
    if (error instanceof ApiError) return error;
    throw error;
  }
}

/**
 * @param {string} method
 * @param {string} path
 * @param {unknown} [body]
 * @param {Record<string, string>} [more]
 */
async function request(method, path, body, more = {}) {
  /** @type {Record<string, string>} */
  const headers = { Accept: "application/json", ...more };
  if (method !== "GET") {
    headers["Content-Type"] = "application/json";
    headers["X-CSRFToken"] = cookie("csrftoken");
  }
  const answer = await send(addressOf(path), { method, headers, body: body ? JSON.stringify(body) : undefined });
  const content = await answer.json().catch(() => ({}));
  if (answer.ok) return content;
  if (answer.status === 401) signedOut.dispatchEvent(new Event("signedout"));
  throw new ApiError(answer.status, content);
}

/**
 * @param {string} url
 * @param {RequestInit} options
 */
async function send(url, options) {
  try {
    return await fetch(url, options);
  } catch {
    throw new ApiError(0, { code: "unreachable", detail: "SVOps does not answer. Check your connection." });
  }
}

/**
 * The address on this site for `path`, or for a `next` link. Those links are absolute, and behind a proxy their host
 * can differ from the one that this page came from.
 * @param {string} path
 */
export function addressOf(path) {
  if (!path.startsWith("http")) return BASE + path;
  const link = new URL(path);
  return link.pathname + link.search;
}

/** @param {string} name */
function cookie(name) {
  const pair = document.cookie.split("; ").find((entry) => entry.startsWith(`${name}=`));
  return pair ? decodeURIComponent(pair.slice(name.length + 1)) : "";
}
