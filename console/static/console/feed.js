// Reads the frames of the live stream: every event once and in order, and the cursor to resume from.

/**
 * What a frame means to the console. `beat` is a heartbeat. `lost` means that the server cannot replay all events.
 * @typedef {{ kind: "ready", heartbeatMs: number } | { kind: "beat" } | { kind: "lost" }
 *   | { kind: "events", events: Api.LogEvent[] }} News
 */

export class Feed {
  /** The id of the last event received; null before the first connection. @type {number | null} */
  cursor = null;
  #isCatchingUp = false;

  /** Start a new connection. Return the cursor to resume from, or null for live events only. */
  connect() {
    this.#isCatchingUp = this.cursor !== null;
    return this.cursor;
  }

  /**
   * Return what the frame means, or null when it brings nothing new.
   * @param {Wire.Frame} frame
   * @returns {News | null}
   */
  take(frame) {
    switch (frame.type) {
      case "connection.ready":
        return this.#ready(/** @type {Wire.Ready} */ (frame));
      case "heartbeat":
        return this.#beat(/** @type {Wire.Heartbeat} */ (frame));
      case "recovered":
        return this.#recovered(/** @type {Wire.Recovered} */ (frame));
      case "events":
        return this.#events(/** @type {Wire.Events} */ (frame).events);
      default:
        return "id" in frame && typeof frame.id === "number" ? this.#events([frame]) : null;
    }
  }

  /**
   * @param {Wire.Ready} frame
   * @returns {News}
   */
  #ready(frame) {
    this.cursor ??= frame.cursor;
    return { kind: "ready", heartbeatMs: frame.heartbeat_s * 1000 };
  }

  /**
   * @param {Wire.Heartbeat} frame
   * @returns {News}
   */
  #beat(frame) {
    // During a replay the server's cursor is ahead of the events received so far.
    if (!this.#isCatchingUp) this.cursor = Math.max(this.cursor ?? 0, frame.cursor);
    return { kind: "beat" };
  }

  /**
   * @param {Wire.Recovered} frame
   * @returns {News | null}
   */
  #recovered(frame) {
    this.#isCatchingUp = false;
    if (frame.recovered) return null;
    this.cursor = null;
    return { kind: "lost" };
  }

  /**
   * @param {Api.LogEvent[]} events
   * @returns {News | null}
   */
  #events(events) {
    const after = this.cursor ?? 0;
    const fresh = events.filter((event) => event.id > after);
    const last = fresh.at(-1);
    if (!last) return null;
    this.cursor = last.id;
    return { kind: "events", events: fresh };
  }
}
