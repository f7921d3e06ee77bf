/** What has come and was not taken yet. Many may put, one takes. */
export class Queue<T> {
  readonly #waiting: T[] = [];
  #end: { error?: unknown } | undefined;
  #wake: (() => void) | undefined;

  get size(): number {
    return this.#waiting.length;
  }

  put(item: T): void {
    this.#waiting.push(item);
    this.#wake?.();
  }

  /** After what was put, taking gives undefined, or throws the error. */
  end(error?: unknown): void {
    this.#end = error === undefined ? {} : { error };
    this.#wake?.();
  }

  async take(): Promise<T | undefined> {
    while (this.#waiting.length === 0) {
      if (this.#end && "error" in this.#end) throw this.#end.error;
      if (this.#end) return undefined;
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
    return this.#waiting.shift();
  }
}
