export * from "./client.js";
export type { Credentials, Secret, Source } from "./credential.js";
export type { ErrorBody } from "./errors.js";
export { SvopsError } from "./errors.js";
export * from "./follow.js";
export type { HttpOptions } from "./http.js";
export type { paths } from "./schema.js";
