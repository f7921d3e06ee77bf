// Keys for the `Idempotency-Key` header.

/**
 * Return a function that gives the same key for the same content. When an answer gets lost and the user sends the same
 * content again, it stays one run.
 * @param {() => string} [newKey]
 * @returns {(content: unknown) => string}
 */
export function idempotencyKeys(newKey = randomKey) {
  let last = "";
  let key = "";
  return (content) => {
    const now = JSON.stringify(content);
    if (now !== last) key = newKey();
    last = now;
    return key;
  };
}

// Not crypto.randomUUID(), which browsers offer over HTTPS only.
const randomKey = () => Array.from(crypto.getRandomValues(new Uint32Array(4)), (part) => part.toString(16)).join("-");
